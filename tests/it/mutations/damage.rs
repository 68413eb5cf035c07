//! Deterministic damage of a file: bytes flipped, cut, inserted and repeated; numbers made huge, negative or no number; keys of
//! JSON and TOML deleted, renamed and retyped; headers of safetensors files changed with their length put right again.

use morec::rng::Stream;
use serde_json::{Value, json};

/// What a file consists of, which decides how else it can be damaged than by bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Anything.
    Bytes,
    /// Lines of text: delimited tables, TOML.
    Text,
    /// One JSON document.
    Json,
    /// A length, a JSON header, data.
    Safetensors,
}

/// Numbers that a reader may believe.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "3",
    "1.5",
    "1e400",
    "-1e-320",
    "4294967296",
    "-9223372036854775808",
    "18446744073709551615",
    "340282366920938463463374607431768211456",
    "NaN",
];

fn below(s: &mut Stream, n: usize) -> usize {
    s.below(n.max(1) as u64) as usize
}

/// What was done, and the file afterwards.
pub fn damage(s: &mut Stream, original: &[u8], format: Format) -> (String, Vec<u8>) {
    let special = s.below(2) == 0;
    match format {
        Format::Text if special => lines(s, original),
        Format::Json if special => document(s, original),
        Format::Safetensors if special => header(s, original),
        _ => bytes(s, original),
    }
}

/// A part of at most 64 bytes.
fn range(s: &mut Stream, len: usize) -> std::ops::Range<usize> {
    let from = below(s, len);
    from..(from + 1 + below(s, 64)).min(len)
}

fn bytes(s: &mut Stream, original: &[u8]) -> (String, Vec<u8>) {
    let mut out = original.to_vec();
    let part = range(s, out.len());
    let what = match s.below(10) {
        0 | 1 => {
            let bit = s.below(8);
            if let Some(b) = out.get_mut(part.start) {
                *b ^= 1 << bit;
            }
            format!("bit {bit} of byte {} flipped", part.start)
        }
        2 | 3 => {
            out.drain(part.clone());
            format!("bytes {part:?} deleted")
        }
        4 => {
            let new: Vec<u8> = (0..1 + s.below(16)).map(|_| s.below(256) as u8).collect();
            out.splice(part.start..part.start, new.iter().copied());
            format!("bytes {new:?} inserted at {}", part.start)
        }
        5 => {
            out.truncate(part.start);
            format!("cut at byte {}", part.start)
        }
        6 => {
            let copy = out[part.clone()].to_vec();
            out.splice(part.end..part.end, copy);
            format!("bytes {part:?} repeated")
        }
        7 => {
            out[part.clone()].fill(0);
            format!("bytes {part:?} zeroed")
        }
        8 => {
            let new: &[u8] = [b"\xff\xfe".as_slice(), b"\xc3", b"\xed\xa0\x80", b"\0"][below(s, 4)];
            out.splice(part.start..part.start, new.iter().copied());
            format!("{new:?}, which is not UTF-8 text, inserted at {}", part.start)
        }
        _ => return number(s, original),
    };
    (what, out)
}

/// One run of digits replaced; without any, the file is emptied.
fn number(s: &mut Stream, original: &[u8]) -> (String, Vec<u8>) {
    let starts: Vec<usize> = (0..original.len())
        .filter(|&i| original[i].is_ascii_digit() && (i == 0 || !original[i - 1].is_ascii_digit()))
        .collect();
    if starts.is_empty() {
        return ("emptied".into(), vec![]);
    }
    let from = starts[below(s, starts.len())];
    let len = original[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let new = NUMBERS[below(s, NUMBERS.len())];
    let out = [&original[..from], new.as_bytes(), &original[from + len..]].concat();
    (format!("the number at byte {from} replaced by {new}"), out)
}

fn lines(s: &mut Stream, original: &[u8]) -> (String, Vec<u8>) {
    let mut all: Vec<Vec<u8>> = original.split_inclusive(|b| *b == b'\n').map(Vec::from).collect();
    if all.is_empty() {
        return ("nothing to damage".into(), vec![]);
    }
    let (a, b) = (below(s, all.len()), below(s, all.len()));
    let what = match s.below(6) {
        0 => {
            all.remove(a);
            format!("line {} deleted", a + 1)
        }
        1 => {
            let copy = all[a].clone();
            all.insert(b, copy);
            format!("line {} repeated before line {}", a + 1, b + 1)
        }
        2 => {
            all.swap(a, b);
            format!("lines {} and {} exchanged", a + 1, b + 1)
        }
        3 => {
            // The value of a setting, or the rest of a row.
            let cut = all[a].iter().position(|b| b"=,\t".contains(b)).map_or(0, |at| at + 1);
            let value = ["\"text\"", "true", "-1", "1e400", "[]", "{}", "", "18446744073709551615"][below(s, 8)];
            all[a].truncate(cut);
            all[a].extend_from_slice(format!(" {value}\n").as_bytes());
            format!("line {} ends in {value}", a + 1)
        }
        _ => return number(s, original),
    };
    (what, all.concat())
}

fn document(s: &mut Stream, original: &[u8]) -> (String, Vec<u8>) {
    let Ok(mut value) = serde_json::from_slice::<Value>(original) else { return bytes(s, original) };
    if s.below(20) == 0 {
        return ("nested 100,000 times".into(), "[".repeat(100_000).into_bytes());
    }
    let what = change(s, &mut value);
    (what, value.to_string().into_bytes())
}

/// Number of values in a document, itself included.
fn size(v: &Value) -> usize {
    1 + match v {
        Value::Array(a) => a.iter().map(size).sum(),
        Value::Object(o) => o.values().map(size).sum(),
        _ => 0,
    }
}

/// The value that comes `n`th, and its path.
fn nth<'v>(v: &'v mut Value, n: &mut usize, path: &str) -> Option<(String, &'v mut Value)> {
    if *n == 0 {
        return Some((path.into(), v));
    }
    *n -= 1;
    match v {
        Value::Array(a) => a.iter_mut().enumerate().find_map(|(i, v)| nth(v, n, &format!("{path}[{i}]"))),
        Value::Object(o) => o.iter_mut().find_map(|(k, v)| nth(v, n, &format!("{path}.{k}"))),
        _ => None,
    }
}

/// Deletes, renames, retypes or enlarges a value somewhere inside; returns what it did.
fn change(s: &mut Stream, value: &mut Value) -> String {
    let mut n = 1 + below(s, size(value) - 1);
    let Some((path, v)) = nth(value, &mut n, "") else { return "nothing to damage".into() };
    match (s.below(4), v) {
        (0, Value::Object(o)) if !o.is_empty() => {
            let key = o.keys().nth(below(s, o.len())).cloned().unwrap_or_default();
            let old = o.remove(&key).unwrap_or_default();
            if s.below(2) == 0 {
                o.insert(format!("{key}_"), old);
            }
            format!("{path}.{key} deleted or renamed")
        }
        (0, Value::Array(a)) if !a.is_empty() => {
            let i = below(s, a.len());
            let old = a.remove(i);
            if s.below(2) == 0 {
                a.extend([old.clone(), old]);
            }
            format!("{path}[{i}] deleted or doubled")
        }
        (1, Value::Number(n)) => {
            let old = n.as_f64().unwrap_or(0.0);
            let new = [old * 2.0, old + 1.0, old / 2.0, -old, old * 1e6][below(s, 5)];
            let whole = new.fract() == 0.0 && new.abs() < 9e15;
            let new = if whole { json!(new as i64) } else { json!(new) };
            let said = format!("{path} = {new} instead of {old}");
            (*n, _) = (new.as_number().cloned().unwrap_or_else(|| 0.into()), ());
            said
        }
        (_, v) => {
            let all = [
                Value::Null,
                json!(true),
                json!(0),
                json!(-1),
                json!(1e300),
                json!(u64::MAX),
                json!(1u64 << 40),
                json!("text"),
                json!(""),
                json!([]),
                json!({}),
                json!([{}, "text", 3]),
            ];
            *v = all[below(s, all.len())].clone();
            format!("{path} = {v}")
        }
    }
}

fn header(s: &mut Stream, original: &[u8]) -> (String, Vec<u8>) {
    let Some((length, rest)) = original.split_first_chunk::<8>() else { return bytes(s, original) };
    let length = u64::from_le_bytes(*length) as usize;
    let Some(mut value) = rest.get(..length).and_then(|h| serde_json::from_slice::<Value>(h).ok()) else {
        return bytes(s, original);
    };
    if s.below(8) == 0 {
        let new = [0, 1, length as u64 - 1, length as u64 + 8, u64::MAX, 1 << 40][below(s, 6)];
        return (format!("header of {new} bytes instead of {length}"), [&new.to_le_bytes()[..], rest].concat());
    }
    let what = change(s, &mut value);
    let mut text = value.to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    (what, [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &rest[length..]].concat())
}
