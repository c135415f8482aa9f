//! What a bundle has of Remote Settings: whether it is signed, and until when Firefox takes it.

use std::io::{self, Write};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::exit::{Exit, Failure};
use super::super::print;
use crate::admin::control::chain;
use crate::config::Config;
use crate::model::{Collection, LockedPart, LockedSettings, Timestamp};
use crate::remote_settings::{Delivered, Undeliverable};

/// Until when Firefox takes each collection.
#[derive(Clone, Debug, Default)]
pub struct Until(Vec<(Collection, Timestamp)>);

impl From<Undeliverable> for Failure {
    fn from(why: Undeliverable) -> Self {
        Self::new(Exit::Data, chain(&why))
    }
}

impl Until {
    /// Judges what a lock pins, by the bytes that `read` gives for a part, under the roots of these settings.
    ///
    /// # Errors
    /// The first collection that is not signed.
    pub fn of(
        config: &Config,
        locked: &LockedSettings,
        read: impl Fn(&LockedPart) -> Result<Bytes, Failure>,
    ) -> Result<Self, Failure> {
        let Some(settings) = &config.settings else {
            let why = "Remote Settings is off (settings.server), so that what it signed cannot be judged";
            return Err(Failure::new(Exit::Config, why));
        };
        let delivered = Delivered::read(locked, &settings.roots, read)?;
        Ok(Self(delivered.firefox_until().map(|(of, until)| (of.clone(), until)).collect()))
    }

    /// For people: the first that ends, or what has ended.
    pub fn write(&self, out: &mut impl Write, now: Timestamp) -> io::Result<()> {
        let Some((first, until)) = self.0.iter().min_by_key(|(_, until)| *until) else { return Ok(()) };
        let count = print::count(self.0.len() as u64, "collection");
        match *until < now {
            false => writeln!(
                out,
                "{count} of Remote Settings, which Firefox takes until {} ({first})",
                print::rfc3339(*until)
            ),
            true => writeln!(
                out,
                "{count} of Remote Settings, of which Firefox no longer takes {first}, since {}",
                print::rfc3339(*until)
            ),
        }
    }

    /// For scripts.
    pub fn object(&self) -> Value {
        let times = self.0.iter().map(|(of, until)| (of.to_string(), print::rfc3339(*until).into()));
        times.collect::<Map<String, Value>>().into()
    }
}
