//! Durations as Go writes them (`1h30m`, `1.5s`, `500ms`), the form of every duration in the resource.
//!
//! Pure text to value. Reads what Go's `time.ParseDuration` reads, with the same bounds (63 bits of nanoseconds); a
//! negative duration is its own error because no field has a use for one.

use std::time::Duration;

use thiserror::Error;

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not of the form number and unit, repeated.
    #[error("not a Go duration")]
    Unreadable,
    /// Below zero.
    #[error("negative")]
    Negative,
    /// More than 63 bits of nanoseconds, about 292 years.
    #[error("too long")]
    TooLong,
}

/// Nanoseconds of each unit. `µ` is the micro sign, `μ` the Greek letter; Go reads both.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a Go duration: an optional sign, then one or more decimal numbers, each with a unit; or a bare `0`.
/// Fractions of a nanosecond are cut off.
pub fn parse_go_duration(text: &str) -> Result<Duration, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Unreadable);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = part(rest)?;
        total = total.checked_add(nanoseconds).ok_or(DurationError::TooLong)?;
        rest = after;
    }
    if i64::try_from(total).is_err() {
        return Err(DurationError::TooLong);
    }
    if negative && total > 0 {
        return Err(DurationError::Negative);
    }
    Ok(Duration::from_nanos(total))
}

/// One number with its unit, in nanoseconds, and what follows it.
fn part(text: &str) -> Result<(u64, &str), DurationError> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Unreadable);
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let unit = UNITS.iter().find(|(unit, _)| *unit == name).ok_or(DurationError::Unreadable)?.1;

    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError::TooLong)? };
    let mut nanoseconds = u128::from(whole) * u128::from(unit);
    let mut scale = u128::from(unit);
    // 3.6e12 nanoseconds an hour: the fourteenth decimal is below one nanosecond in every unit, and thirteen digits of
    // a fraction cannot lose what the ones after it would add.
    let (mut numerator, mut denominator) = (0_u128, 1_u128);
    for digit in fraction.bytes().take(18) {
        numerator = numerator * 10 + u128::from(digit - b'0');
        denominator *= 10;
    }
    scale = scale * numerator / denominator;
    nanoseconds += scale;
    Ok((u64::try_from(nanoseconds).map_err(|_| DurationError::TooLong)?, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_of_go_are_read() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("30s", 30_000_000_000),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("1.s", 1_000_000_000),
            (".5m", 30_000_000_000),
            ("500ms", 500_000_000),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("7μs", 7_000),
            ("9ns", 9),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("1m1m", 120_000_000_000),
            ("9223372036854775807ns", i64::MAX as u64),
        ] {
            assert_eq!(parse_go_duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_go_does_not_read_is_refused_with_its_reason() {
        for text in [
            "", "-", "+", ".", "s", ".s", "30", "30 s", " 30s", "30s ", "1d", "1h-5m", "3S", "1,5s", "0x1s", "--1s",
            "1e3s",
        ] {
            assert_eq!(parse_go_duration(text), Err(DurationError::Unreadable), "{text:?}");
        }
        assert_eq!(parse_go_duration("-1ns"), Err(DurationError::Negative));
        for text in ["9223372036854775808ns", "2562048h", "99999999999999999999s", "2562047h2562047h"] {
            assert_eq!(parse_go_duration(text), Err(DurationError::TooLong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_sum_of_parts_is_the_sum_of_their_values(parts in prop::collection::vec((0_u64..100_000, 0_usize..8), 1..6)) {
            let words: Vec<String> = parts.iter().map(|(number, unit)| format!("{number}{}", UNITS[*unit].0)).collect();
            let text = words.concat();
            let sum: u64 = parts.iter().map(|(number, unit)| number * UNITS[*unit].1).sum();
            prop_assert_eq!(parse_go_duration(&text), Ok(Duration::from_nanos(sum)));
        }

        #[test]
        fn a_decimal_number_of_milliseconds_is_exact(whole in 0_u64..1_000_000, micros in 0_u64..1_000) {
            let expected = Duration::from_micros(whole * 1_000 + micros);
            prop_assert_eq!(parse_go_duration(&format!("{whole}.{micros:03}ms")), Ok(expected));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,24}") {
            let _ = parse_go_duration(&text);
        }

        #[test]
        fn no_text_near_a_duration_makes_it_panic(text in "[-+]?([0-9]{0,20}[.]?[0-9]{0,20}(h|m|s|ms|us|µs|ns|x)?){0,3}") {
            let _ = parse_go_duration(&text);
        }
    }
}
