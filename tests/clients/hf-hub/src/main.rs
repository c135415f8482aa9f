//! Downloads with the hf-hub crate as a program would: `hf-hub-driver REPOSITORY PATH...`
//!
//! The endpoint and the home come from `HF_ENDPOINT` and `HF_HOME`. Prints the local path of each file, one a line;
//! without paths it downloads all that the repository lists and prints the folder.

use hf_hub::api::sync::ApiBuilder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let id = arguments.next().ok_or("a repository is wanted")?;
    let repository = ApiBuilder::from_env().with_progress(false).build()?.model(id);
    let paths: Vec<String> = arguments.collect();
    for path in &paths {
        println!("{}", repository.get(path)?.display());
    }
    if paths.is_empty() {
        let mut folder = None;
        for file in repository.info()?.siblings {
            let path = repository.get(&file.rfilename)?;
            // One step up for each segment of the name.
            folder = path.ancestors().nth(file.rfilename.split('/').count()).map(ToOwned::to_owned);
        }
        println!("{}", folder.ok_or("the repository lists no file")?.display());
    }
    Ok(())
}
