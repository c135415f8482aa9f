//! The layers, from the weakest to the strongest, and the values that win.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::file;
use super::keys::{KEYS, Key};
use super::problem::{Origin, Problem, nearest};
use super::setting::{Raw, Refusal, Setting};
use crate::model::Hub;

/// Everything that settings are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The directory of the system's `config.toml` and `conf.d`.
    pub system: PathBuf,
    /// The file of `--config`, which must exist.
    pub explicit: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Flags, in the order of the command line.
    pub flags: Vec<FlagValue>,
}

/// A flag of the command line that sets a key.
#[derive(Clone, Debug)]
pub struct FlagValue {
    flag: String,
    id: String,
    raw: Raw,
}

impl FlagValue {
    /// `flag` was given for the key `id`.
    pub fn new(flag: impl Into<String>, id: impl Into<String>, raw: Raw) -> Self {
        Self { flag: flag.into(), id: id.into(), raw }
    }

    /// The arguments that give it.
    fn arguments(&self) -> Vec<String> {
        let one = |value: &str| match (
            &self.flag[..],
            self.id.strip_prefix("hub.").and_then(|id| id.strip_suffix(".url")),
        ) {
            ("--hub", Some(name)) => format!("--hub={name}={value}"),
            (flag, _) => format!("{flag}={value}"),
        };
        match &self.raw {
            Raw::Text(text) => vec![one(text)],
            Raw::List(values) => values.iter().map(|value| one(value)).collect(),
            // No flag has another form.
            _ => Vec::new(),
        }
    }

    /// `--hub NAME=URL`.
    pub fn hub(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, url)) => Self::new("--hub", format!("hub.{name}.url"), Raw::Text(url.to_owned())),
            None => Self::new("--hub", "hub", Raw::Text(text.to_owned())),
        }
    }
}

/// A value that won, and where it came from.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The value as it was written.
    pub raw: Raw,
    /// Its layer.
    pub origin: Origin,
}

/// The winning value of every key.
#[derive(Clone, Debug)]
pub struct Values(BTreeMap<&'static str, Chosen>);

impl Values {
    /// All keys in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Key, &Chosen)> {
        KEYS.iter().map(|key| (key, self.chosen(key.id)))
    }

    /// The typed value of a key.
    pub(super) fn get<T: Setting>(&self, id: &str) -> T {
        T::read(&self.chosen(id).raw).expect("each value was checked when its layer was read")
    }

    /// Where the value of a key came from.
    pub(super) fn origin(&self, id: &str) -> &Origin {
        &self.chosen(id).origin
    }

    fn chosen(&self, id: &str) -> &Chosen {
        self.0.get(id).expect("the default layer has every key of the table")
    }
}

impl Sources {
    /// The places that this process has to look at.
    pub fn of_process(explicit: Option<PathBuf>, flags: Vec<FlagValue>) -> Self {
        Self {
            system: PathBuf::from("/etc/hubcache"),
            explicit,
            variables: std::env::vars_os().collect(),
            flags,
        }
    }

    /// The flags that were given, for another process.
    pub(super) fn again(&self) -> Vec<OsString> {
        let file = self.explicit.as_ref().map(|path| {
            let mut flag = OsString::from("--config=");
            flag.push(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
            flag
        });
        let flags = self.flags.iter().flat_map(FlagValue::arguments);
        file.into_iter().chain(flags.map(OsString::from)).collect()
    }

    fn directory(&self, variable: &str) -> Option<PathBuf> {
        let (_, value) = self.variables.iter().find(|(name, _)| name.to_str() == Some(variable))?;
        // The XDG rules have relative paths ignored.
        Some(PathBuf::from(value)).filter(|path| path.is_absolute())
    }

    fn user_file(&self) -> Option<PathBuf> {
        let base =
            self.directory("XDG_CONFIG_HOME").or_else(|| Some(self.directory("HOME")?.join(".config")))?;
        Some(base.join("hubcache/config.toml"))
    }

    fn data_directory(&self) -> Option<PathBuf> {
        // A service with several state directories gets them all, with colons between.
        let first = |dirs: PathBuf| dirs.to_str().and_then(|d| d.split(':').next()).map(PathBuf::from);
        if let Some(dir) = self.directory("STATE_DIRECTORY").and_then(first) {
            return Some(dir);
        }
        let base = self
            .directory("XDG_STATE_HOME")
            .or_else(|| Some(self.directory("HOME")?.join(".local/state")))?;
        Some(base.join("hubcache"))
    }
}

/// What all layers together say.
#[derive(Debug)]
pub struct Read {
    /// Complete, and right if there are no problems.
    pub values: Values,
    /// The files that exist, in order.
    pub files: Vec<PathBuf>,
    /// Everything that is wrong, in any layer, shadowed or not.
    pub problems: Vec<Problem>,
}

/// Reads every layer to its end.
pub fn read(sources: &Sources) -> Read {
    let mut read = Read { values: defaults(sources), files: Vec::new(), problems: Vec::new() };
    read.files(sources);
    for (name, value) in &sources.variables {
        read.variable(&name.to_string_lossy(), value);
    }
    for flag in &sources.flags {
        read.flag(flag);
    }
    let dir = read.values.chosen("store.dir");
    if dir.origin == Origin::Default && dir.raw == Raw::Text(String::new()) {
        let text = "store.dir: none of $STATE_DIRECTORY, $XDG_STATE_HOME and $HOME is set; give --data DIR";
        read.problems.push(Problem { origin: Origin::Default, text: text.to_owned() });
    }
    read
}

fn defaults(sources: &Sources) -> Values {
    let of = |key: &'static Key| {
        let found = sources.data_directory().filter(|_| key.id == "store.dir");
        let text = found.map_or_else(|| key.default.to_owned(), |dir| dir.to_string_lossy().into_owned());
        let raw = match (text.parse(), text.parse()) {
            _ if key.is_list => {
                Raw::List(text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
            (Ok(number), _) => Raw::Integer(number),
            (_, Ok(switch)) => Raw::Boolean(switch),
            _ => Raw::Text(text),
        };
        (key.id, Chosen { raw, origin: Origin::Default })
    };
    Values(KEYS.iter().map(of).collect())
}

impl Read {
    fn files(&mut self, sources: &Sources) {
        self.file(&sources.system.join("config.toml"), false);
        let drop_ins = sources.system.join("conf.d");
        match drop_in_files(&drop_ins) {
            Ok(paths) => paths.iter().for_each(|path| self.file(path, true)),
            Err(error) => self.unreadable(&drop_ins, &error),
        }
        if let Some(path) = sources.user_file() {
            self.file(&path, false);
        }
        if let Some(path) = &sources.explicit {
            self.file(path, true);
        }
    }

    fn file(&mut self, path: &Path, must_exist: bool) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if !must_exist && is_absence(&error) => return,
            Err(error) => return self.unreadable(path, &error),
        };
        self.files.push(path.to_owned());
        let said = file::parse(path, &text);
        self.problems.extend(said.problems);
        for (key, raw, origin) in said.values {
            self.values.0.insert(key.id, Chosen { raw, origin });
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let origin = Origin::File { path: path.to_owned(), line: None };
        self.problems.push(Problem { origin, text: format!("cannot be read: {error}") });
    }

    fn variable(&mut self, name: &str, value: &OsString) {
        let short = KEYS.iter().find(|key| key.short_variable().as_deref() == Some(name));
        // Without two underscores it names no section, and so is nobody's attempt at a setting.
        if short.is_none() && !name.strip_prefix("HUBCACHE_").is_some_and(|rest| rest.contains("__")) {
            return;
        }
        let origin = Origin::Variable(name.to_owned());
        let Some(key) = short.or_else(|| KEYS.iter().find(|key| key.variable() == name)) else {
            let id = name["HUBCACHE_".len()..].to_ascii_lowercase().replace("__", ".");
            self.problems.push(Problem { origin, text: unknown(&id, Key::variable) });
            return;
        };
        match value.to_str() {
            Some(text) => self.set(key, Raw::Text(text.to_owned()), origin),
            None => self.problems.push(Problem { origin, text: format!("{}: not UTF-8", key.id) }),
        }
    }

    fn flag(&mut self, given: &FlagValue) {
        let origin = Origin::Flag(given.flag.clone());
        match Key::find(&given.id) {
            Some(key) => self.set(key, given.raw.clone(), origin),
            None if given.id == "hub" => {
                let text = format!("{}: expected NAME=URL such as {}", given.raw.toml(), hub_example());
                self.problems.push(Problem { origin, text });
            }
            None => {
                let text = unknown(&given.id, |key| format!("--{}", key.flag()));
                self.problems.push(Problem { origin, text });
            }
        }
    }

    fn set(&mut self, key: &'static Key, raw: Raw, origin: Origin) {
        match key.check(&raw) {
            Ok(()) => {
                self.values.0.insert(key.id, Chosen { raw, origin });
            }
            Err(refusal) => self.problems.push(Problem { origin, text: refused(key, &raw, &refusal) }),
        }
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The `*.toml` of a directory in the order of their names; none if it does not exist.
fn drop_in_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|e| Ok(e?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "toml"));
    paths.sort();
    Ok(paths)
}

/// What to say of a key that does not exist; `spell` writes a key as this layer does.
pub fn unknown(id: &str, spell: fn(&Key) -> String) -> String {
    if let Some(name) = id.strip_prefix("hub.").map(|rest| rest.split('.').next().unwrap_or(rest))
        && !Hub::MODELS.iter().any(|hub| hub.name() == name)
    {
        return format!("there is no hub {name:?}; known are {}", hub_names());
    }
    let (section, name) = id.rsplit_once('.').unwrap_or(("", id));
    let neighbours: Vec<_> = KEYS.iter().filter(|key| key.section == section).collect();
    let find = |by: fn(&Key) -> &'static str, word: &str, among: &[&'static Key]| {
        let near = nearest(word, among.iter().map(|key| by(key)))?;
        among.iter().copied().find(|key| by(key) == near)
    };
    let meant = find(|key| key.name, name, &neighbours)
        // The right name in the wrong section is the commonest slip, and far away by letters.
        .or_else(|| KEYS.iter().find(|key| key.name == name))
        .or_else(|| {
            find(|key| key.id, id, &KEYS.iter().collect::<Vec<_>>()).filter(|_| neighbours.is_empty())
        });
    match meant {
        Some(key) => format!("{id}: no such setting; did you mean {}?", spell(key)),
        None => format!("{id}: no such setting; `hubcache config show` lists all"),
    }
}

/// What to say of a value that its key does not take.
pub fn refused(key: &Key, raw: &Raw, refusal: &Refusal) -> String {
    let value = without_credentials(&raw.toml());
    let hint = refusal.0.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{} = {value}: expected {}{hint}", key.id, key.expects())
}

/// A URL in a message keeps no user name and password.
fn without_credentials(value: &str) -> String {
    match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}***{}", &value[..scheme + 3], &value[at..]),
        _ => value.to_owned(),
    }
}

fn hub_names() -> String {
    Hub::MODELS.map(Hub::name).join(" and ")
}

fn hub_example() -> String {
    format!("{}={}", Hub::HuggingFace, Hub::HuggingFace.default_root())
}
