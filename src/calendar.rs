//! The date and time of now, in UTC.

use std::time::Duration;

use jiff::Timestamp;

/// The date, year first: `2026-01-31`.
pub fn today() -> String {
    date(now())
}

/// The date and the time, for names that sort by age: `2026-01-31-235959Z`; Z says that it is UTC.
pub(crate) fn run_stamp() -> String {
    stamp(now())
}

fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d-%H%M%SZ").to_string()
}

/// The time since 1970 (UTC), by `web_time`, which knows the browser's clock; zero where the clock is set to before that.
pub(crate) fn since_1970() -> Duration {
    web_time::SystemTime::now().duration_since(web_time::SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// 1970 where the clock is set to after the year 9999.
fn now() -> Timestamp {
    i64::try_from(since_1970().as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_written_year_first() {
        // From `date -u -d @SECONDS +%F-%H%M%SZ`.
        for (seconds, expected) in [
            (0, "1970-01-01-000000Z"),
            (951_782_400 + 86_399, "2000-02-29-235959Z"),
            (1_767_225_599, "2025-12-31-235959Z"),
            (1_767_229_445, "2026-01-01-010405Z"),
            (4_107_542_400, "2100-03-01-000000Z"),
        ] {
            let at = Timestamp::from_second(seconds).unwrap();
            assert_eq!(stamp(at), expected);
            assert_eq!(date(at), expected[..10]);
        }
        assert!(now() > Timestamp::from_second(1_767_225_600).unwrap());
        assert!(run_stamp() >= today());
    }
}
