//! The form of a log line that no terminal colours: written straight into the line, for every request has one.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// `TIME LEVEL TARGET: MESSAGE KEY=VALUE ...`, as tracing's own formatter writes it.
pub(super) struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        let level = match *metadata.level() {
            tracing::Level::ERROR => " ERROR ",
            tracing::Level::WARN => "  WARN ",
            tracing::Level::INFO => "  INFO ",
            tracing::Level::DEBUG => " DEBUG ",
            tracing::Level::TRACE => " TRACE ",
        };
        writer.write_str(level)?;
        writer.write_str(metadata.target())?;
        writer.write_str(":")?;
        let mut fields = Fields { writer: &mut writer, result: Ok(()) };
        // The message first, wherever it stands among the fields.
        event.record(&mut Message(&mut fields));
        event.record(&mut fields);
        fields.result?;
        writer.write_char('\n')
    }
}

struct Fields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    result: fmt::Result,
}

impl Fields<'_, '_> {
    fn name(&mut self, field: &Field) -> bool {
        if field.name() == "message" || self.result.is_err() {
            return false;
        }
        self.result = self
            .writer
            .write_char(' ')
            .and_then(|()| self.writer.write_str(field.name()))
            .and_then(|()| self.writer.write_char('='));
        self.result.is_ok()
    }
}

impl Visit for Fields<'_, '_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if self.name(field) {
            self.result = write!(self.writer, "{value}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if !self.name(field) {
            return;
        }
        // What needs no escape is written as it is; `Debug` would look at each character.
        let plain = value.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'));
        self.result = match plain {
            true => self
                .writer
                .write_char('"')
                .and_then(|()| self.writer.write_str(value))
                .and_then(|()| self.writer.write_char('"')),
            false => write!(self.writer, "{value:?}"),
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.name(field) {
            self.result = write!(self.writer, "{value:?}");
        }
    }
}

struct Message<'a, 'b, 'w>(&'a mut Fields<'b, 'w>);

impl Visit for Message<'_, '_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" && self.0.result.is_ok() {
            self.0.result = write!(self.0.writer, " {value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn line(of: impl tracing::Subscriber + Send + Sync + 'static, sink: &Sink) -> String {
        tracing::subscriber::with_default(of, || {
            let (cause, none) = (Some("a \"quoted\" word\n"), None::<&str>);
            tracing::warn!(path = "/a b", cause, none, n = 5_u64, i = -5, b = true, d = %"x y", "some request");
        });
        let text = String::from_utf8(std::mem::take(&mut *sink.0.lock().unwrap())).unwrap();
        // The time stands in front.
        text.split_once(' ').unwrap().1.to_owned()
    }

    #[test]
    fn a_line_looks_as_tracing_would_write_it() {
        let sink = Sink::default();
        let writer = {
            let sink = sink.clone();
            move || sink.clone()
        };
        let builder = || tracing_subscriber::fmt().with_ansi(false).with_writer(writer.clone());
        let theirs = line(builder().finish(), &sink);
        let ours = line(builder().event_format(Plain).finish(), &sink);
        assert_eq!(ours, theirs);
        assert!(ours.ends_with(
            "some request path=\"/a b\" cause=\"a \\\"quoted\\\" word\\n\" n=5 i=-5 b=true d=x y\n"
        ));
    }
}
