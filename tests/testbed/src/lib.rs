//! What the tests of the operator stand on.
