//! Kubernetes quantities as far as the resource has them: sizes of claims and of the cache.
//!
//! Pure text to bytes. A claim's size is handed on as text (Kubernetes reads it itself); the cache's size goes into the
//! server's configuration as a number of bytes, so it has to be a whole one.

use thiserror::Error;

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Not a whole number with a known suffix.
    #[error("not a quantity")]
    Unreadable,
    /// More than 63 bits.
    #[error("too large")]
    TooLarge,
}

/// Bytes of each suffix.
const SUFFIXES: [(&str, u64); 11] = [
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
];

/// Reads a size: digits, optionally one of k, M, G, T, P, Ki, Mi, Gi, Ti, Pi. Returns bytes.
pub fn parse_bytes(text: &str) -> Result<u64, QuantityError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit = SUFFIXES.iter().find(|(name, _)| *name == suffix).ok_or(QuantityError::Unreadable)?.1;
    if number.is_empty() {
        return Err(QuantityError::Unreadable);
    }
    let number: u64 = number.parse().map_err(|_| QuantityError::TooLarge)?;
    number.checked_mul(unit).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or(QuantityError::TooLarge)
}

/// Whether a text is the size of a claim: digits with Mi, Gi or Ti, above 0 and below one exbibyte.
pub fn is_claim_size(text: &str) -> bool {
    const EXBIBYTE: u64 = 1 << 60;
    let suffixed = ["Mi", "Gi", "Ti"].iter().any(|suffix| {
        text.strip_suffix(suffix).is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    });
    suffixed && parse_bytes(text).is_ok_and(|bytes| bytes > 0 && bytes < EXBIBYTE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_in_bytes() {
        for (text, bytes) in [
            ("1", 1),
            ("512Mi", 536_870_912),
            ("1Gi", 1_073_741_824),
            ("1G", 1_000_000_000),
            ("2Ti", 2_199_023_255_552),
            ("007k", 7000),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_whole_number_of_bytes_is_refused_with_its_reason() {
        for text in ["", "Gi", "1gi", "1 Gi", "-1Gi", "+1Gi", "1Gib", "1e3", "1.Gi", ".5Gi", "1.5Gi", "1m", "１Gi"] {
            assert_eq!(parse_bytes(text), Err(QuantityError::Unreadable), "{text:?}");
        }
        for text in ["9223372036854775808", "8192Pi", "99999999999999999999999Gi"] {
            assert_eq!(parse_bytes(text), Err(QuantityError::TooLarge), "{text}");
        }
    }

    #[test]
    fn a_claim_is_more_than_nothing_and_less_than_an_exbibyte() {
        for text in ["1Mi", "10Gi", "2Ti", "0010Gi", "1048575Ti"] {
            assert!(is_claim_size(text), "{text}");
        }
        for text in ["0Gi", "000Mi", "", "Gi", "10", "10G", "1.5Gi", "1Ki", "1Pi", "1048576Ti", "-1Gi", "10Gi "] {
            assert!(!is_claim_size(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_whole_number_with_a_suffix_is_their_product(number in 0_u64..8000, suffix in 0_usize..11) {
            let (name, unit) = SUFFIXES[suffix];
            prop_assert_eq!(parse_bytes(&format!("{number}{name}")), Ok(number * unit));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,24}") {
            let _ = parse_bytes(&text);
            let _ = is_claim_size(&text);
        }

        #[test]
        fn no_text_near_a_size_makes_it_panic(text in "[0-9]{0,30}[.]?[0-9]{0,30}(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi|m)?") {
            let _ = parse_bytes(&text);
        }
    }
}
