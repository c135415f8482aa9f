//! `hubcache preload --firefox`: what the AI of Firefox needs, and pinning it.
//!
//! One state of Remote Settings is read and, for a lock, kept. What its records name is looked for file by file: nobody
//! lists what the hub of Firefox has. Then everything is brought, and pinned: models that came whole, and of Remote
//! Settings that state. One model that cannot be had is no reason to leave the others; at the end it is told.

use std::io;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use serde_json::json;

use super::super::exit::Failure;
use super::super::lock::{self, diff, resolve};
use super::super::settings;
use super::super::transfer::{self, Choice};
use super::announced::{self, Announced};
use super::needs::Needs;
use super::outcome::{self, Trouble};
use super::pinning::{self, Came};
use super::plan::{self, Planned};
use super::{FEATURE, MODELS, PLAN, files, keep, watcher};
use crate::config::Config;
use crate::transfer::ModelName;
use crate::transfer::lock::Lock;

pub fn run(matches: &ArgMatches, config: &Config) -> Result<(), Failure> {
    let asked = Asked::of(matches)?;
    let needs = Needs::read(config, asked.pins(), &|text| asked.say(text))?;
    let work = Work::of(&asked, config, &needs)?;
    if asked.only_shown {
        plan::show(config, &work.plan, Some(&needs.collections), asked.as_json)?;
        return outcome::conclude(&work.troubles);
    }
    work.carry_out(&asked, config, &needs)
}

/// What was said on the command line, and the lock file as it is.
struct Asked<'a> {
    path: Option<&'a Path>,
    before: Lock,
    named: Vec<ModelName>,
    features: Vec<String>,
    choice: Choice,
    only_shown: bool,
    as_json: bool,
    quiet: bool,
}

impl<'a> Asked<'a> {
    fn of(matches: &'a ArgMatches) -> Result<Self, Failure> {
        let many = |name: &str| matches.get_many::<String>(name).into_iter().flatten();
        let path = matches.get_one::<PathBuf>(lock::LOCK).map(PathBuf::as_path);
        let before = path.filter(|path| path.exists()).map(lock::read).transpose()?;
        Ok(Self {
            path,
            before: before.unwrap_or_default(),
            named: many(MODELS).map(|text| transfer::model(text)).collect::<Result<_, _>>()?,
            features: many(FEATURE).cloned().collect(),
            choice: Choice::of(matches)?,
            only_shown: matches.get_flag(PLAN),
            as_json: matches.get_flag("json"),
            quiet: transfer::is_quiet(matches),
        })
    }

    /// Whether a lock is written.
    fn pins(&self) -> bool {
        self.path.is_some() && !self.only_shown
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }
}

/// What is to be done.
struct Work {
    plan: Vec<Planned>,
    /// What people have named, as it is pinned.
    people: Lock,
    announced: Vec<Announced>,
    troubles: Vec<Trouble>,
}

impl Work {
    fn of(asked: &Asked<'_>, config: &Config, needs: &Needs) -> Result<Self, Failure> {
        let chosen = needs.for_features(&asked.features, &asked.before)?;
        let mut work = Self {
            plan: Vec::new(),
            people: pinning::of_people(&asked.before),
            announced: Vec::new(),
            troubles: needs.lacking(),
        };
        work.add_named(asked, config)?;
        work.plan.extend(plan::of_lock(config, &work.people)?);
        for needed in chosen {
            match announced::look_for(config, &needed, &|text| asked.say(text)) {
                Ok(Some(found)) => {
                    work.plan.extend(found.plan(config)?);
                    work.announced.push(found);
                }
                Ok(None) => {}
                // Somebody has said which files it has.
                Err((Some(name), _)) if work.people.models.contains_key(&name) => {}
                Err((_, trouble)) => work.troubles.push(trouble),
            }
        }
        work.plan.extend(plan::of_settings(config, &needs.settings)?.0);
        plan::once(&mut work.plan);
        Ok(work)
    }

    /// What is named on the command line: pinned where a lock is written.
    fn add_named(&mut self, asked: &Asked<'_>, config: &Config) -> Result<(), Failure> {
        for name in &asked.named {
            if asked.pins() {
                let commit = asked.before.models.get(name).and_then(|locked| locked.commit.as_ref());
                let locked = resolve::resolve(config, name, commit, &asked.choice, asked.quiet)?;
                self.people.models.insert(name.clone(), locked);
            } else {
                self.plan.extend(plan::of_hub(config, name, &asked.choice, &|text| asked.say(text))?);
            }
        }
        Ok(())
    }

    fn carry_out(mut self, asked: &Asked<'_>, config: &Config, needs: &Needs) -> Result<(), Failure> {
        let mut watcher = watcher(asked.quiet || asked.as_json, &self.plan);
        let brought = transfer::bring(config, &files(&self.plan), &mut watcher)?;
        let came = Came::of(&self.plan, &brought);
        self.troubles.extend(outcome::troubles(&self.plan, &brought));
        self.troubles.extend(self.announced.iter().filter_map(|found| came.nothing_of(found)));
        for found in self.announced.iter().filter(|found| came.lacks_weights(found)) {
            asked.say(&format!("{}: none of the weights that were looked for are there", found.name));
        }
        let collections = needs.collections.iter().map(settings::collection);
        let mut beside = json!({"collections": collections.collect::<Vec<_>>()});
        if let Some(path) = asked.path {
            let after = pinning::after(&asked.before, self.people, &self.announced, &came, needs);
            if asked.before != after || !path.exists() {
                lock::write(path, &after)?;
            }
            keep(config, &after)?;
            beside["lock"] = diff::object(&asked.before, &after);
            if !asked.quiet && !asked.as_json {
                eprintln!("hubcache: {}:", path.display());
                // If nobody reads it, nothing is lost.
                let _ = diff::write(&mut io::stderr().lock(), &asked.before, &after);
            }
        }
        outcome::report(&self.plan, &brought, beside, asked.as_json, asked.quiet)?;
        outcome::conclude(&self.troubles)
    }
}
