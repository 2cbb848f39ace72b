//! Attributes of whole pods.
