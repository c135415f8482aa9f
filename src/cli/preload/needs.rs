//! What Firefox needs, as whoever owns the data directory tells it: asked of the server first, and where that cannot be
//! asked, as it is held.

use std::collections::BTreeSet;

use super::super::exit::{Exit, Failure};
use super::super::print;
use super::super::reach::{self, Event};
use super::outcome::Trouble;
use crate::admin::control::Command;
use crate::config::Config;
use crate::model::{LockedSettings, Needed, Timestamp, Use};
use crate::remote_settings::{CollectionStatus, OPTIONS, SettingsStatus};
use crate::transfer::lock::Lock;

/// What is needed by one state of Remote Settings.
pub struct Needs {
    /// How it stands with the collections.
    pub collections: Vec<CollectionStatus>,
    /// What the records name of models.
    pub models: Vec<Needed>,
    /// What is held of Remote Settings.
    pub settings: LockedSettings,
}

impl Needs {
    /// Asks; with `keep` the state stays here, whatever is announced later.
    pub fn read(config: &Config, keep: bool, say: &dyn Fn(&str)) -> Result<Self, Failure> {
        let collections = synced(config, say)?.collections;
        let (mut models, mut settings, mut attachments) = (Vec::new(), None, Vec::new());
        reach::execute(config, Command::Needs { keep }, |event| match event {
            Event::Needed(needed) => models.push(needed),
            Event::Locked(locked) => settings = Some(*locked),
            Event::Attached(location, attached) => attachments.push((location, attached)),
            _ => {}
        })?;
        let other = || Failure::new(Exit::Software, "the owner of the data directory is of another version");
        let mut settings: LockedSettings = settings.ok_or_else(other)?;
        settings.attachments.extend(attachments);
        Ok(Self { collections, models, settings })
    }

    /// What is needed for the features or tasks that are given, all if none is, and for the features that a lock has
    /// already.
    pub fn for_features(&self, given: &[String], lock: &Lock) -> Result<Vec<Needed>, Failure> {
        if given.is_empty() {
            return Ok(self.models.clone());
        }
        let uses = || self.models.iter().flat_map(|needed| &needed.uses);
        if let Some(unknown) = given.iter().find(|name| !uses().any(|of| of.is_for(name))) {
            let known: BTreeSet<&str> = uses().map(Use::purpose).collect();
            let known = Vec::from_iter(known).join(", ");
            let why = format!("no record of main/{OPTIONS} is for {unknown:?}; there are {known}");
            return Err(Failure::new(Exit::Usage, why));
        }
        let locked: BTreeSet<&String> = lock.models.values().flat_map(|locked| &locked.features).collect();
        let is_meant = |of: &Use| {
            given.iter().any(|name| of.is_for(name)) || locked.iter().any(|name| *name == of.purpose())
        };
        Ok(self.models.iter().filter_map(|needed| needed.only_for(is_meant)).collect())
    }

    /// The collections of which nothing is held.
    pub fn lacking(&self) -> Vec<Trouble> {
        let lacking = self.collections.iter().filter(|one| one.timestamp.is_none());
        let told = |one: &CollectionStatus| {
            let why = one.trouble.as_deref().unwrap_or("nothing is held of it");
            Trouble { exit: Exit::TryAgain, line: format!("{}: {why}", one.collection) }
        };
        lacking.map(told).collect()
    }
}

/// How it stands with Remote Settings after its server was asked, or when it cannot be.
fn synced(config: &Config, say: &dyn Fn(&str)) -> Result<SettingsStatus, Failure> {
    let (status, unasked) = match status(config, Command::Sync) {
        Ok(Some(status)) => (status, None),
        Err(failure) if failure.code() == Exit::Unavailable.code() => {
            match status(config, Command::Settings)? {
                Some(status) => (status, Some(failure)),
                None => return Err(failure),
            }
        }
        Ok(None) => return Err(Failure::new(Exit::Software, "nothing was told of Remote Settings")),
        Err(failure) => return Err(failure),
    };
    let options =
        status.collections.iter().find(|one| one.collection.to_string() == format!("main/{OPTIONS}"));
    let options = options.ok_or_else(|| {
        let why = format!(
            "main/{OPTIONS} is not among settings.collections, and nothing else says what Firefox needs"
        );
        Failure::new(Exit::Config, why)
    })?;
    let why = unasked.as_ref().map(|failure| failure.message().to_owned()).or_else(|| status.trouble.clone());
    if options.timestamp.is_none() {
        let exit = if unasked.is_some() { Exit::Unavailable } else { Exit::TryAgain };
        let why = why.or_else(|| options.trouble.clone()).unwrap_or_else(|| "it was not told".to_owned());
        return Err(Failure::new(exit, format!("nothing is held of main/{OPTIONS}: {why}")));
    }
    if let Some(why) = why {
        say(&format!("Remote Settings is taken as it is held: {why}"));
    }
    for one in &status.collections {
        if let (Some(trouble), Some(at)) = (&one.trouble, one.timestamp) {
            let at = print::rfc3339(Timestamp(at));
            say(&format!("{}: {trouble}; its state of {at} is taken", one.collection));
        }
    }
    Ok(status)
}

fn status(config: &Config, command: Command) -> Result<Option<SettingsStatus>, Failure> {
    let mut told = None;
    reach::execute(config, command, |event| {
        if let Event::Settings(status) = event {
            told = Some(*status);
        }
    })?;
    Ok(told)
}
