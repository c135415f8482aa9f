//! Downloads with version 1 of the hf-hub crate as a program would: `hf-hub-1-driver REPOSITORY PATH...`
//!
//! The endpoint and the home come from `HF_ENDPOINT` and `HF_HOME`. Prints the local path of each file, one a line;
//! without paths it downloads all of the repository and prints the folder.

use hf_hub::HFClientSync;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let id = arguments.next().ok_or("a repository is wanted")?;
    let (owner, name) = id.split_once('/').ok_or("a repository is OWNER/NAME")?;
    let repository = HFClientSync::new()?.model(owner, name);
    let paths: Vec<String> = arguments.collect();
    if paths.is_empty() {
        println!("{}", repository.snapshot_download().send()?.display());
    }
    for path in paths {
        println!("{}", repository.download_file().filename(path).send()?.display());
    }
    Ok(())
}
