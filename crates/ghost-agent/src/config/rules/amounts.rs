//! Numbers and durations, in one spelling each. Invariant: nothing that two YAML readers, or two
//! people, could read as different amounts is accepted.

use std::ops::RangeInclusive;
use std::time::Duration;

use ghost_core::domain::Reserve;

use super::{Rule, Scalar, quoted};

/// A whole number of `unit`, plural; no unit where `unit` is empty.
pub(in crate::config) fn whole(range: RangeInclusive<u32>, unit: &'static str) -> Rule<u32> {
    let allowed = format!("{} to {} {unit}", range.start(), range.end());
    Rule::one(allowed.trim_end().to_owned(), move |scalar| number(scalar, &range))
}

/// `auto`, or a whole number of `unit`.
pub(in crate::config) fn reserve(range: RangeInclusive<u32>, unit: &'static str) -> Rule<Reserve> {
    let allowed =
        format!("auto for a quarter of the host, or {} to {} {unit}", range.start(), range.end());
    Rule::one(allowed, move |scalar| match scalar.text.as_str() {
        "auto" => Ok(Reserve::Quarter),
        _ => number(scalar, &range).map(Reserve::Exactly),
    })
}

/// A decimal number such as `1.5`.
pub(in crate::config) fn ratio(range: RangeInclusive<f64>) -> Rule<f64> {
    let allowed = format!("{:?} to {:?}", range.start(), range.end());
    Rule::one(allowed, move |scalar| {
        let text = scalar.unquoted("a number")?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        digits(whole, text)?;
        if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{} is not a number such as 1.5", quoted(text)));
        }
        text.parse().ok().filter(|n| range.contains(n)).ok_or_else(|| out_of_range(text))
    })
}

/// A duration such as `30s`, `2m`, `500ms` or `1h30m`.
pub(in crate::config) fn duration(range: RangeInclusive<Duration>) -> Rule<Duration> {
    let allowed = format!("{} to {}", in_words(*range.start()), in_words(*range.end()));
    Rule::text(allowed, move |text| {
        let duration = parts(text)?;
        if range.contains(&duration) { Ok(duration) } else { Err(out_of_range(text)) }
    })
}

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The sum of the parts, each unit at most once and the larger before the smaller.
fn parts(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text} has no unit; give one, such as {text}s"));
    }
    let unreadable =
        || format!("{} is not a duration such as 30s, 2m, 500ms or 1h30m", quoted(text));
    let mut units = UNITS.iter();
    let mut rest = text;
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let (amount, tail) = split_at(rest, |c| !c.is_ascii_digit());
        let (unit, tail) = split_at(tail, |c| c.is_ascii_digit());
        digits(amount, text).map_err(|_| unreadable())?;
        let (_, size) = units.find(|(name, _)| *name == unit).ok_or_else(unreadable)?;
        let amount: u64 = amount.parse().map_err(|_| out_of_range(text))?;
        millis = amount
            .checked_mul(*size)
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(|| out_of_range(text))?;
        rest = tail;
    }
    if text.is_empty() { Err(unreadable()) } else { Ok(Duration::from_millis(millis)) }
}

fn split_at(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

fn in_words(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut words = String::new();
    for (name, size) in UNITS {
        if left >= size {
            words += &format!("{}{name}", left / size);
            left %= size;
        }
    }
    words
}

fn number(scalar: &Scalar, range: &RangeInclusive<u32>) -> Result<u32, String> {
    let text = scalar.unquoted("a number")?;
    digits(text, text)?;
    text.parse().ok().filter(|n| range.contains(n)).ok_or_else(|| out_of_range(text))
}

/// Refuses what is not decimal digits, and `010`, which YAML 1.1 reads as 8 and YAML 1.2 as 10.
fn digits(part: &str, whole: &str) -> Result<(), String> {
    if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{} is not a number in decimal digits", quoted(whole)));
    }
    if part.len() > 1 && part.starts_with('0') {
        return Err(format!(
            "{} begins with 0, which some read as octal; write it without leading zeros",
            quoted(whole)
        ));
    }
    Ok(())
}

fn out_of_range(text: &str) -> String {
    format!("{} is out of range", quoted(text).trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_one_spelling() {
        for (text, millis) in [
            ("30s", 30_000),
            ("2m", 120_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("1m0s", 60_000),
        ] {
            assert_eq!(parts(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5h",
            "1s1m",
            "1s1s",
            "01s",
            "1S",
            "1 s",
            "1d",
            "99999999999999999999h",
        ] {
            assert!(parts(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_in_words_reads_back_as_the_same(millis in 1u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parts(&in_words(duration)), Ok(duration));
        }
    }
}
