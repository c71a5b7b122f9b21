//! Kubernetes quantities as the API server stores them.
//!
//! It rewrites `0.5` to `500m` and `1024Mi` to `1Gi`; what is built must be written so that it is kept, or it would
//! differ from what is stored for ever. Source of the rules: the documentation of the type `resource.Quantity`.

/// Quantities are counted in thousandths: the API server rounds anything finer in resources and claims up to one.
const MILLIS: i128 = 1000;

/// Decimal suffixes by power of 1000, from 10⁻⁹.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Binary suffixes by power of 1024.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The canonical form of `text`; `text` itself when it is no quantity (which the API server refuses) or too large
/// to count here.
pub fn canonical(text: &str) -> String {
    // Twice, as an object is read again when it comes out of storage: 312.5Ki goes in as 320000 and comes out as 320k.
    canonical_form(text.trim()).and_then(|once| canonical_form(&once)).unwrap_or_else(|| text.to_owned())
}

/// How much `text` is, in thousandths, rounded up: for comparing. None when it is no quantity, or too large to count.
pub fn thousandths(text: &str) -> Option<i128> {
    let text = text.trim();
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (_, base, exponent) = scale(suffix)?;
    millis(number, base, exponent).map(|amount| sign * amount)
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Decimal,
    Exponent,
    Binary,
}

fn canonical_form(text: &str) -> Option<String> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (format, base, exponent) = scale(suffix)?;
    let millis = millis(number, base, exponent)?;
    let sign = if negative && millis != 0 { "-" } else { "" };

    // A binary quantity that is not whole is written in decimal.
    let whole = millis % MILLIS == 0;
    let (divisor, mut value, mut index, suffixes): (i128, i128, usize, &[&str]) = if format == Format::Binary && whole {
        (1024, millis / MILLIS, 0, &BINARY)
    } else {
        (1000, millis, 2, &DECIMAL)
    };
    while value != 0 && value % divisor == 0 && index + 1 < suffixes.len() {
        value /= divisor;
        index += 1;
    }
    if value == 0 {
        return Some("0".to_owned());
    }
    if format == Format::Exponent {
        let power = (i32::try_from(index).ok()? - 3) * 3;
        return Some(if power == 0 { format!("{sign}{value}") } else { format!("{sign}{value}e{power}") });
    }
    Some(format!("{sign}{value}{}", suffixes[index]))
}

/// Format, base and exponent that a suffix stands for.
fn scale(suffix: &str) -> Option<(Format, i128, i32)> {
    if let Some(power) = BINARY.iter().skip(1).position(|&known| known == suffix) {
        return Some((Format::Binary, 1024, i32::try_from(power).ok()? + 1));
    }
    if let Some(power) = DECIMAL.iter().position(|&known| known == suffix) {
        return Some((Format::Decimal, 1000, i32::try_from(power).ok()? - 3));
    }
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Format::Exponent, 10, power))
}

/// `number` × `base`^`exponent` in thousandths, rounded up.
fn millis(number: &str, base: i128, exponent: i32) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let mut numerator = digits.checked_mul(MILLIS)?;
    let mut denominator = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let factor = base.checked_pow(exponent.unsigned_abs())?;
    if exponent < 0 {
        denominator = denominator.checked_mul(factor)?;
    } else {
        numerator = numerator.checked_mul(factor)?;
    }
    Some(numerator / denominator + i128::from(numerator % denominator != 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_written_as_the_api_server_stores_them() {
        for (given, stored) in [
            ("10Gi", "10Gi"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1048576Ki", "1Gi"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("2.", "2"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("1", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1000", "1k"),
            ("0001000", "1k"),
            ("1024", "1024"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("312.5Ki", "320k"),
            ("0.0001Ki", "103m"),
            ("0Gi", "0"),
            ("1e3", "1e3"),
            ("1000e0", "1e3"),
            ("12e0", "12"),
            ("5E", "5E"),
            ("100u", "1m"),
            ("0.0000000001", "1m"),
            ("-500m", "-500m"),
            ("+1", "1"),
        ] {
            assert_eq!(canonical(given), stored, "{given}");
        }
    }

    #[test]
    fn what_is_no_quantity_stays_as_it_is() {
        for text in ["", ".", "Gi", "10GiB", "ten", "1 Gi", "1.2.3", "e3", "99999999999999999999999999999999999999999"]
        {
            assert_eq!(canonical(text), text);
        }
    }

    #[test]
    fn quantities_are_counted_in_thousandths() {
        for (text, amount) in [
            ("1", 1000),
            ("10Gi", 10 * 1024 * 1024 * 1024 * 1000),
            ("10G", 10_000_000_000_000),
            ("1e3", 1_000_000),
            ("500m", 500),
            ("-1", -1000),
            ("0Gi", 0),
        ] {
            assert_eq!(thousandths(text), Some(amount), "{text}");
        }
        for text in ["", "Gi", "ten", "1 Gi", "99999999999999999999999999999999999999999"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own_canonical_form(
            text in "[0-9]{1,6}(\\.[0-9]{0,4})?(n|u|m|k|M|G|Ki|Mi|Gi|Ti|e[0-6])?"
        ) {
            let once = canonical(&text);
            prop_assert_eq!(canonical(&once), once);
        }
    }
}
