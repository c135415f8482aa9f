//! What a command of the program has said, and how it ended.

use std::process::Output;

use serde_json::Value;

/// What a command that must succeed has written.
///
/// # Panics
/// When it did not.
#[track_caller]
pub fn told(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{:?} {errors}", output.status.code());
    String::from_utf8(output.stdout).expect("the program writes UTF-8")
}

/// The same as the JSON that it is.
///
/// # Panics
/// When it is none.
#[track_caller]
pub fn object(output: Output) -> Value {
    serde_json::from_str(&told(output)).expect("it is JSON")
}

/// That a command ends with this status; what it says of it.
///
/// # Panics
/// When it ends with another.
#[track_caller]
pub fn refused(output: Output, status: i32) -> String {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    text
}
