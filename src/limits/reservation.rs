//! What a request holds from admission to its end, all limits or none.
