//! From a route and its body to [`RequestFacts`](crate::policy::RequestFacts), and to the places where it may be spliced.
