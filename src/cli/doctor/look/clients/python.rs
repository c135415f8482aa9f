//! Python environments: which of them have huggingface_hub, by the descriptions of their packages.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::super::super::clients::Python;
use super::super::super::environment::Environment;
use super::{directories, names};

const PROGRAMS: [&str; 4] = ["python3", "python", "hf", "huggingface-cli"];
/// Longest first line of a script.
const MAX_LINE: u64 = 512;

/// The environments of the programs that would be started: those that stand first in `PATH`, and a virtual one.
pub fn found(environment: &Environment) -> Vec<Python> {
    let directories = directories(environment);
    let first = |name: &&str| directories.iter().map(|dir| dir.join(name)).find(|program| program.is_file());
    let programs = PROGRAMS.iter().filter_map(first);
    let mut prefixes: BTreeSet<PathBuf> = programs.flat_map(|program| prefixes(&program)).collect();
    prefixes.extend(environment.get("VIRTUAL_ENV").map(PathBuf::from));
    prefixes.extend(environment.get("HOME").map(|home| Path::new(home).join(".local")));
    let packages: BTreeSet<PathBuf> = prefixes.iter().flat_map(|prefix| packages(prefix)).collect();
    packages.into_iter().filter_map(|dir| described(&dir)).collect()
}

/// Where the packages of a program may lie: around itself, around what it is a link to, and around the Python that it is
/// a script of. A link in a virtual environment leads to the Python below that, whose packages are not used.
fn prefixes(program: &Path) -> Vec<PathBuf> {
    let around = |program: &Path| Some(program.parent()?.parent()?.to_owned());
    let own = around(program);
    if own.as_ref().is_some_and(|own| own.join("pyvenv.cfg").exists()) {
        return own.into_iter().collect();
    }
    let target = program.canonicalize().ok();
    let script = target.as_deref().and_then(interpreter);
    let others = [target, script].into_iter().flatten().filter_map(|program| around(&program));
    own.into_iter().chain(others).collect()
}

/// The program that runs a script, by its first line.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    fs::File::open(script).ok()?.take(MAX_LINE).read_to_end(&mut line).ok()?;
    let text = String::from_utf8_lossy(&line);
    let program = text.lines().next()?.strip_prefix("#!")?.split_whitespace().next()?;
    Some(PathBuf::from(program)).filter(|program| program.is_absolute())
}

/// The directories of packages below a prefix, for every version of Python.
fn packages(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for lib in ["lib", "lib64", "local/lib"] {
        let lib = prefix.join(lib);
        for version in names(&lib).iter().filter(|name| name.starts_with("python3")) {
            let kinds = ["site-packages", "dist-packages"].map(|kind| lib.join(version).join(kind));
            found.extend(kinds.iter().filter_map(|dir| dir.canonicalize().ok()));
        }
    }
    found
}

fn described(packages: &Path) -> Option<Python> {
    let names = names(packages);
    let version = |package: &str| {
        let described = names.iter().filter_map(|name| name.strip_suffix(".dist-info")?.split_once('-'));
        described.into_iter().find(|(name, _)| *name == package).map(|(_, version)| version.to_owned())
    };
    Some(Python {
        version: version("huggingface_hub")?,
        xet: version("hf_xet"),
        packages: packages.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_found_by_a_script_of_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (bin, tool) = (root.join("bin"), root.join("tools/hub"));
        let packages = tool.join("lib/python3.11/site-packages");
        for name in ["huggingface_hub-2.4.0.dist-info", "hf_xet-1.8.0.dist-info", "other-1.dist-info"] {
            fs::create_dir_all(packages.join(name)).unwrap();
        }
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("hf"), format!("#!{}/bin/python\nimport x\n", tool.display())).unwrap();
        let environment: Environment = [("PATH", bin.to_str().unwrap())].into_iter().collect();
        let found = found(&environment);
        let python = found.iter().find(|python| python.packages == packages).unwrap();
        assert_eq!((python.version.as_str(), python.xet.as_deref()), ("2.4.0", Some("1.8.0")));
    }

    #[test]
    fn a_virtual_environment_stands_for_itself() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(root.path().join("pyvenv.cfg"), "").unwrap();
        std::os::unix::fs::symlink("/bin/sh", bin.join("python3")).unwrap();
        assert_eq!(prefixes(&bin.join("python3")), [root.path()]);
    }
}
