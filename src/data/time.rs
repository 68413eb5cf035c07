//! Timestamps: parsed exactly as integers; their unit is inferred from their size.
//!
//! Reading seconds since 1970 as `f32` changes 96 % of ML-100K's sequences, so nothing here passes through a float.

use super::policy::TimeUnit;

/// 1990-01-01 in seconds since 1970.
const FIRST: i64 = 631_152_000;
/// 2100-01-01 in seconds since 1970.
const LAST: i64 = 4_102_444_800;

/// A parsed number: its floor, and whether a fraction was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// The largest integer not above the number.
    pub value: i64,
    /// Whether the number had a non-zero fraction.
    pub fractional: bool,
}

/// Parses a decimal number (`978300760`, `978300760.0`, `9.7830076e8`) exactly.
///
/// # Errors
/// Description of the failure: not a number, or outside the range of 64 bits.
pub fn parse(text: &str) -> Result<Parsed, String> {
    let text = text.trim();
    if let Ok(value) = text.parse::<i64>() {
        return Ok(Parsed { value, fractional: false });
    }
    let not = || format!("`{text}` is not a number");
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().map_err(|_| not())?),
        None => (text, 0),
    };
    let (sign, digits) = match mantissa.as_bytes().first() {
        Some(b'-') => (-1, &mantissa[1..]),
        Some(b'+') => (1, &mantissa[1..]),
        _ => (1, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    if whole.len() + fraction.len() == 0 && !digits.contains('0')
        || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    {
        return Err(not());
    }
    let far = || format!("`{text}` does not fit in 64 bits");
    let mut n: i128 = 0;
    for b in whole.bytes().chain(fraction.bytes()) {
        n = n.checked_mul(10).and_then(|n| n.checked_add(i128::from(b - b'0'))).ok_or_else(far)?;
    }
    n *= sign;
    let scale = i64::from(exponent) - fraction.len() as i64;
    let power = || u32::try_from(scale.unsigned_abs()).ok().and_then(|p| 10i128.checked_pow(p)).ok_or_else(far);
    let (value, fractional) = match scale {
        _ if n == 0 => (0, false),
        0.. => (n.checked_mul(power()?).ok_or_else(far)?, false),
        _ => (n.div_euclid(power()?), n.rem_euclid(power()?) != 0),
    };
    Ok(Parsed { value: i64::try_from(value).map_err(|_| far())?, fractional })
}

/// Unit in which `value` is a date between 1990 and 2100; `None` if there is none.
pub fn unit_of(value: i64) -> Option<TimeUnit> {
    [TimeUnit::S, TimeUnit::Ms, TimeUnit::Us, TimeUnit::Ns].into_iter().find(|u| {
        let k = i128::from(u.per_second());
        (i128::from(FIRST) * k..i128::from(LAST) * k).contains(&i128::from(value))
    })
}

/// Formats seconds since 1970 as date and time of day (UTC), `YYYY-MM-DD hh:mm:ss`.
pub fn date(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days, after H. Hinnant: years start in March, so that the leap day comes last.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * m + 2) / 5 + 1, if m < 10 { m + 3 } else { m - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_numbers() {
        let ok = |t: &str| parse(t).map(|p| (p.value, p.fractional));
        assert_eq!(ok("978300760.0"), Ok((978_300_760, false)));
        assert_eq!(ok("9.7830076e8"), Ok((978_300_760, false)));
        assert_eq!(ok("978300760.75"), Ok((978_300_760, true)));
        assert_eq!(ok("-0.5"), Ok((-1, true)));
        assert_eq!(ok("0.0"), Ok((0, false)));
        assert_eq!(ok(".0"), Ok((0, false)));
        assert_eq!(ok("9007199254740993.0"), Ok((9_007_199_254_740_993, false)), "beyond the integers of f64");
        for bad in ["", ".", "abc", "1e", "2018-01-01", "nan", "1e40", "1_000", "-", "0x10"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn units_and_dates() {
        assert_eq!(unit_of(978_300_760), Some(TimeUnit::S));
        assert_eq!(unit_of(978_300_760_000), Some(TimeUnit::Ms));
        assert_eq!(unit_of(978_300_760_000_000), Some(TimeUnit::Us));
        assert_eq!(unit_of(978_300_760_000_000_000), Some(TimeUnit::Ns));
        assert_eq!(unit_of(0), None);
        assert_eq!(unit_of(i64::MAX), None);
        assert_eq!(date(978_300_760), "2000-12-31 22:12:40");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date(-1), "1969-12-31 23:59:59");
    }
}
