//! The `hubcache` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    hubcache::cli::run(std::env::args_os())
}
