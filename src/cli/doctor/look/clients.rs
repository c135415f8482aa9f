//! Clients on this machine, by what lies in their directories. None of them is started.

mod firefox;
mod python;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::clients::{Clients, TransformersJs};
use super::super::environment::Environment;
use super::super::trust::Trust;

pub use firefox::policies;

/// Longest small file that is read, in bytes.
const MAX_TEXT: u64 = 4 << 20;
/// The packages of transformers.js, the newer name first.
const TRANSFORMERSJS: [&str; 2] = ["@huggingface/transformers", "@xenova/transformers"];

/// Those that are found from the working directory, in `PATH` and in the usual places.
pub fn clients(environment: &Environment, trust: &Trust) -> Clients {
    Clients {
        firefoxes: firefox::found(environment, trust),
        pythons: python::found(environment),
        transformersjs: transformersjs(Path::new(".")),
    }
}

/// The directories in which programs are looked for.
fn directories(environment: &Environment) -> Vec<PathBuf> {
    let path = environment.get("PATH").unwrap_or_default();
    std::env::split_paths(path).filter(|dir| dir.is_absolute()).collect()
}

/// A file as text, if it is there and not too long.
fn text(file: &Path) -> Option<String> {
    let about = fs::metadata(file).ok().filter(|about| about.is_file() && about.len() <= MAX_TEXT)?;
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default());
    std::io::Read::read_to_end(&mut std::io::Read::take(fs::File::open(file).ok()?, MAX_TEXT), &mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn transformersjs(project: &Path) -> Vec<TransformersJs> {
    let packages = TRANSFORMERSJS.into_iter().filter_map(|name| {
        let package = project.join("node_modules").join(name);
        let about: Value = serde_json::from_str(&text(&package.join("package.json"))?).ok()?;
        Some(TransformersJs { package, version: about["version"].as_str()?.to_owned() })
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_of_transformersjs_is_found_by_its_description() {
        let project = tempfile::tempdir().unwrap();
        let package = project.path().join("node_modules/@huggingface/transformers");
        assert!(transformersjs(project.path()).is_empty());
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join("package.json"), r#"{"version": "4.3.1"}"#).unwrap();
        let found = transformersjs(project.path());
        assert_eq!(found[0].version, "4.3.1");
    }
}
