//! What a request may cost in tokens, learnt from what answers reported.
