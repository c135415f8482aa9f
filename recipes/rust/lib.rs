//! What is tested with a model.

/// How many bytes a configuration has.
pub fn length(config: &str) -> usize {
    config.trim().len()
}
