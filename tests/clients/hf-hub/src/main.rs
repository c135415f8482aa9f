//! Downloads files with the hf-hub crate as a program would: `hf-hub-driver REPOSITORY PATH...`
//!
//! The endpoint and the home come from `HF_ENDPOINT` and `HF_HOME`. Prints the local path of each file, one a line.

use hf_hub::api::sync::ApiBuilder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let id = arguments.next().ok_or("a repository is wanted")?;
    let repository = ApiBuilder::from_env().with_progress(false).build()?.model(id);
    for path in arguments {
        println!("{}", repository.get(&path)?.display());
    }
    Ok(())
}
