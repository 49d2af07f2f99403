//! One event as one line of text.

use std::{
    fmt::{self, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tracing::{
    Event,
    field::{Field, Visit},
};

/// Longest line, with its end: what a pipe takes at once or not at all (`PIPE_BUF`, pipe(7)).
pub(super) const MAX: usize = 4096;
/// What follows a line that was cut.
const CUT: &str = "...";
/// The last second of the year 9999, the last that RFC 3339 can write.
const LAST_SECOND: u64 = 253_402_300_799;

/// `2026-01-02T03:04:05.678Z INFO p2pmount::mounts message key=value`, with its line end.
///
/// Control characters are escaped, values with spaces, quotes or equal signs in them are quoted, long lines are cut.
pub(super) fn format(now: SystemTime, event: &Event<'_>) -> String {
    let mut line = Line { text: String::with_capacity(256), cut: false };
    let metadata = event.metadata();
    let time = timestamp(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    // A failure to write is a line that is full, which `finish` sees to, or a value that can not be shown.
    let _ = write!(line, "{time} {} {}", metadata.level(), metadata.target());
    event.record(&mut Message(&mut line));
    event.record(&mut Values(&mut line));
    line.finish()
}

struct Line {
    text: String,
    cut: bool,
}

impl Line {
    fn finish(mut self) -> String {
        if self.cut {
            let mut at = (MAX - 1 - CUT.len()).min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            self.text.truncate(at);
            self.text.push_str(CUT);
        }
        self.text.push('\n');
        self.text
    }

    fn push(&mut self, c: char) -> fmt::Result {
        if self.text.len() + c.len_utf8() > MAX - 1 {
            self.cut = true;
            return Err(fmt::Error);
        }
        self.text.push(c);
        Ok(())
    }

    fn value(&mut self, name: &str, value: fmt::Arguments<'_>) {
        if write!(self, " {name}=").is_err() {
            return;
        }
        let start = self.text.len();
        let _ = self.write_fmt(value);
        let shown = &self.text[start..];
        let plain = !shown.is_empty() && !shown.contains([' ', '"', '=']);
        // A string's `Debug` form has its quotes already.
        if plain || shown.starts_with('"') {
            return;
        }
        let shown = shown.to_owned();
        self.text.truncate(start);
        let mut quote = || {
            self.push('"')?;
            for c in shown.chars() {
                if c == '"' {
                    self.push('\\')?;
                }
                self.push(c)?;
            }
            self.push('"')
        };
        let _ = quote();
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            // The last two end a line for some viewers.
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                c.escape_default().try_for_each(|c| self.push(c))?;
            } else {
                self.push(c)?;
            }
        }
        Ok(())
    }
}

const MESSAGE: &str = "message";

/// Writes the event's sentence.
struct Message<'a>(&'a mut Line);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MESSAGE {
            let _ = write!(self.0, " {value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Writes the event's other fields.
struct Values<'a>(&'a mut Line);

impl Visit for Values<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != MESSAGE {
            self.0.value(field.name(), format_args!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// UTC with milliseconds (RFC 3339).
fn timestamp(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs().min(LAST_SECOND);
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= 365 + leap(year) {
        days -= 365 + leap(year);
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", days + 1, since_1970.subsec_millis())
}

/// Days that a year has more than 365.
fn leap(year: u64) -> u64 {
    u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{Metadata, Subscriber, span};

    use super::*;

    /// Keeps every line, made at a fixed time.
    #[derive(Clone, Default)]
    struct Capture(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Capture {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn event(&self, event: &Event<'_>) {
            let line = format(UNIX_EPOCH + Duration::from_millis(1_767_323_045_678), event);
            self.0.lock().unwrap().push(line);
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    fn captured(log: impl FnOnce()) -> Vec<String> {
        let _alone = super::super::tests::alone();
        let capture = Capture::default();
        tracing::subscriber::with_default(capture.clone(), log);
        std::mem::take(&mut *capture.0.lock().unwrap())
    }

    #[test]
    fn an_event_is_one_line_with_time_level_target_message_and_values() {
        let lines = captured(|| {
            tracing::info!(target: "p2pmount::mounts", count = 3, yes = true, peer = %"12D3", "forward {}", "opened");
            tracing::warn!(target: "p2pmount", text = "a b", empty = "", debug = ?"c d", some = ?Some("e"), "m");
            tracing::error!(target: "p2pmount", only = 1);
        });
        assert_eq!(
            lines,
            [
                "2026-01-02T03:04:05.678Z INFO p2pmount::mounts forward opened count=3 yes=true peer=12D3\n",
                "2026-01-02T03:04:05.678Z WARN p2pmount m text=\"a b\" empty=\"\" debug=\"c d\" some=\"Some(\\\"e\\\")\"\n",
                "2026-01-02T03:04:05.678Z ERROR p2pmount only=1\n",
            ]
        );
    }

    #[test]
    fn nothing_in_an_event_can_begin_a_second_line() {
        let lines = captured(|| {
            let nasty = "a\r\n2026 ERROR forged\u{1b}[31m\u{2028}\u{85}";
            tracing::info!(target: "p2pmount", display = %nasty, text = nasty, "{nasty}");
        });
        let escaped = "a\\r\\n2026 ERROR forged\\u{1b}[31m\\u{2028}\\u{85}";
        assert_eq!(
            lines,
            [format!("2026-01-02T03:04:05.678Z INFO p2pmount {escaped} display=\"{escaped}\" text=\"{escaped}\"\n")]
        );
    }

    #[test]
    fn long_lines_are_cut_at_4096_bytes_on_a_character_boundary() {
        let prefix = "2026-01-02T03:04:05.678Z INFO p2pmount ";
        let longest = "x".repeat(MAX - 1 - prefix.len());
        let lines = captured(|| {
            tracing::info!(target: "p2pmount", "{longest}");
            tracing::info!(target: "p2pmount", "{longest}y");
            tracing::info!(target: "p2pmount", text = "ä ".repeat(10_000), after = 1, "m");
        });
        assert_eq!(lines[0], format!("{prefix}{longest}\n"));
        assert_eq!(lines[1], format!("{prefix}{}...\n", &longest[..longest.len() - 3]));
        assert!(lines[2].len() <= MAX && lines[2].len() > MAX - 5, "{}", lines[2].len());
        assert!(lines[2].contains("text=\"ä ä") && lines[2].ends_with("...\n") && !lines[2].contains("after"));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (LAST_SECOND, "9999-12-31T23:59:59.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(timestamp(Duration::from_secs(seconds)), text);
        }
        assert_eq!(timestamp(Duration::from_millis(1_767_323_045_678)), "2026-01-02T03:04:05.678Z");
    }
}
