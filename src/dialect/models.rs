//! The list of models, in each dialect's shape.
