//! Reader of the pickled class in MoRec's image databases, `LMDB_Image{channels, size, image, id}`. No code is
//! executed: opcodes build plain values, classes are only names, and nothing is called.

use crate::picture::{MAX_PIXELS, Rgb};
use std::collections::HashMap;

/// Value of a pickle.
#[derive(Debug, Clone)]
enum Value {
    None,
    Int(i64),
    Bytes(Vec<u8>),
    Text(String),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// Class, by its name only.
    Class(String),
    /// Object that is not constructed: its class, arguments and state.
    Object(Box<Object>),
    Mark,
}

#[derive(Debug, Clone)]
struct Object {
    class: String,
    args: Vec<Value>,
    state: Option<Value>,
}

/// Limit of opcodes, stack size and memo entries, far above those of valid files.
const MOST: usize = 10_000;

struct Reader<'a> {
    bytes: &'a [u8],
    stack: Vec<Value>,
    memo: HashMap<u64, Value>,
    /// Number of bytes that memo reads may still copy.
    budget: usize,
}

type Result<T> = std::result::Result<T, String>;

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.bytes.len() {
            return Err("it ends early".into());
        }
        let (a, b) = self.bytes.split_at(n);
        self.bytes = b;
        Ok(a)
    }
    fn number(&mut self, n: usize) -> Result<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |a, &b| a << 8 | u64::from(b)))
    }
    fn signed(&mut self, n: usize) -> Result<i64> {
        let v = self.number(n)?;
        let shift = 64 - 8 * n as u32;
        Ok(((v << shift) as i64) >> shift)
    }
    fn line(&mut self) -> Result<String> {
        let end = self.bytes.iter().position(|&b| b == b'\n').ok_or("it ends early")?;
        let line = self.take(end + 1)?;
        Ok(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r').into())
    }
    fn text(&mut self, n: usize) -> Result<Value> {
        Ok(Value::Text(String::from_utf8_lossy(self.take(n)?).into_owned()))
    }
    fn pop(&mut self) -> Result<Value> {
        match self.stack.pop() {
            None | Some(Value::Mark) => Err("its opcodes do not fit together".into()),
            Some(v) => Ok(v),
        }
    }
    fn since_mark(&mut self) -> Result<Vec<Value>> {
        let at = self.stack.iter().rposition(|v| matches!(v, Value::Mark)).ok_or("a mark is missing")?;
        let values = self.stack.split_off(at + 1);
        self.stack.pop();
        Ok(values)
    }
    fn memo(&mut self, key: u64) -> Result<()> {
        let top = self.stack.last().ok_or("nothing to remember")?;
        // A memo entry is a copy, and nested copies could grow exponentially: only plain values and small lists of
        // plain values are stored.
        let small = match top {
            Value::Bytes(_) | Value::Text(_) | Value::Int(_) | Value::None | Value::Class(_) => true,
            Value::Tuple(v) | Value::List(v) => {
                v.len() < 16 && v.iter().all(|v| matches!(v, Value::Int(_) | Value::Text(_)))
            }
            _ => false,
        };
        let kept = if small { top.clone() } else { Value::None };
        if self.memo.len() > MOST {
            return Err("it remembers too much".into());
        }
        self.memo.insert(key, kept);
        Ok(())
    }
    fn recall(&mut self, key: u64) -> Result<()> {
        let v = self.memo.get(&key).ok_or("it recalls what it never kept")?;
        let size = match v {
            Value::Bytes(b) => b.len(),
            Value::Text(t) => t.len(),
            _ => 64,
        };
        self.budget = self.budget.checked_sub(size).ok_or("it recalls too much")?;
        let v = v.clone();
        self.stack.push(v);
        Ok(())
    }
    fn top(&mut self) -> Result<&mut Value> {
        self.stack.last_mut().ok_or_else(|| "its opcodes do not fit together".into())
    }
    fn add_items(&mut self, items: Vec<Value>) -> Result<()> {
        let mut items = items.into_iter();
        let Value::Dict(d) = self.top()? else { return Err("items for what is no dictionary".into()) };
        while let (Some(k), Some(v)) = (items.next(), items.next()) {
            d.push((k, v));
        }
        Ok(())
    }
    fn build(&mut self) -> Result<()> {
        let args = self.pop()?;
        let class = self.pop()?;
        let args = match args {
            Value::Tuple(v) => v,
            _ => return Err("arguments that are no tuple".into()),
        };
        let Value::Class(class) = class else { return Err("it calls what is no class".into()) };
        if !expected(&class) {
            return Err(format!("it wants `{class}`, which has no place in a picture"));
        }
        self.stack.push(Value::Object(Box::new(Object { class, args, state: None })));
        Ok(())
    }
    /// Executes opcodes until STOP; returns the value on top.
    fn run(mut self) -> Result<Value> {
        for _ in 0..MOST {
            if self.stack.len() > MOST {
                break;
            }
            match self.take(1)?[0] {
                b'.' => return self.pop(),
                opcode => self.execute(opcode)?,
            }
        }
        Err("it is too long for a picture".into())
    }

    fn execute(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => {
                let version = self.take(1)?[0];
                if version > 5 {
                    return Err(format!("pickle protocol {version} is not known"));
                }
            }
            // FRAME: its length is not needed.
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.stack.push(Value::Mark),
            b'0' => {
                self.stack.pop();
            }
            b'N' | 0x88 | 0x89 | b'K' | b'M' | b'J' | 0x8a | b'I' | b'L' => {
                let v = self.read_scalar(opcode)?;
                self.stack.push(v);
            }
            b'C' | b'U' | b'B' | b'T' | 0x8e | 0x96 | 0x8c | b'X' => {
                let v = self.read_string(opcode)?;
                self.stack.push(v);
            }
            b')' | b']' | b'}' | b't' | b'l' | 0x85..=0x87 => {
                let v = self.make_collection(opcode)?;
                self.stack.push(v);
            }
            b'a' | b'e' | b's' | b'u' => self.extend_collection(opcode)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.use_memo(opcode)?,
            b'c' | 0x93 => {
                let v = self.read_class(opcode)?;
                self.stack.push(v);
            }
            // NEWOBJ and REDUCE: the class and arguments are recorded, nothing is constructed or called.
            0x81 | b'R' => self.build()?,
            b'b' => {
                let state = self.pop()?;
                let Value::Object(o) = self.top()? else { return Err("a state for what is no object".into()) };
                o.state = Some(state);
            }
            other => return Err(format!("opcode 0x{other:02x} has no place in a picture")),
        }
        Ok(())
    }

    /// NONE, NEWTRUE, NEWFALSE, BININT1, BININT2, BININT, LONG1, INT and LONG.
    fn read_scalar(&mut self, opcode: u8) -> Result<Value> {
        Ok(Value::Int(match opcode {
            b'N' => return Ok(Value::None),
            0x88 => 1,
            0x89 => 0,
            b'K' => self.number(1)? as i64,
            b'M' => self.number(2)? as i64,
            b'J' => self.signed(4)?,
            0x8a => match self.number(1)? as usize {
                0 => 0,
                n @ 1..=8 => self.signed(n)?,
                _ => return Err("a number of more than 64 bits".into()),
            },
            _ => {
                let line = self.line()?;
                line.trim_end_matches('L').parse().map_err(|_| format!("`{line}` is no number"))?
            }
        }))
    }

    /// Opcodes of bytes and text: a length of 1, 4 or 8 bytes, then the content.
    fn read_string(&mut self, opcode: u8) -> Result<Value> {
        let length = match opcode {
            b'C' | b'U' | 0x8c => self.number(1)?,
            b'B' | b'T' | b'X' => self.number(4)?,
            _ => self.number(8)?,
        };
        let n = usize::try_from(length).map_err(|e| e.to_string())?;
        match opcode {
            0x8c | b'X' => self.text(n),
            _ => Ok(Value::Bytes(self.take(n)?.to_vec())),
        }
    }

    /// Empty tuple, list and dictionary; tuple and list of what lies above the mark; tuples of one to three values.
    fn make_collection(&mut self, opcode: u8) -> Result<Value> {
        Ok(match opcode {
            b')' => Value::Tuple(vec![]),
            b']' => Value::List(vec![]),
            b'}' => Value::Dict(vec![]),
            b't' => Value::Tuple(self.since_mark()?),
            b'l' => Value::List(self.since_mark()?),
            n => {
                let mut v = (0x84..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
                v.reverse();
                Value::Tuple(v)
            }
        })
    }

    /// APPEND, APPENDS, SETITEM and SETITEMS.
    fn extend_collection(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b'a' => {
                let v = self.pop()?;
                let Value::List(l) = self.top()? else { return Err("an element for what is no list".into()) };
                l.push(v);
                Ok(())
            }
            b'e' => {
                let all = self.since_mark()?;
                let Value::List(l) = self.top()? else { return Err("elements for what is no list".into()) };
                l.extend(all);
                Ok(())
            }
            b's' => {
                let (v, k) = (self.pop()?, self.pop()?);
                self.add_items(vec![k, v])
            }
            _ => {
                let all = self.since_mark()?;
                self.add_items(all)
            }
        }
    }

    /// BINPUT, LONG_BINPUT, MEMOIZE, BINGET and LONG_BINGET.
    fn use_memo(&mut self, opcode: u8) -> Result<()> {
        let key = match opcode {
            b'q' | b'h' => self.number(1)?,
            b'r' | b'j' => self.number(4)?,
            _ => self.memo.len() as u64,
        };
        if matches!(opcode, b'h' | b'j') { self.recall(key) } else { self.memo(key) }
    }

    /// GLOBAL and STACK_GLOBAL: a class by name.
    fn read_class(&mut self, opcode: u8) -> Result<Value> {
        if opcode == b'c' {
            let (module, name) = (self.line()?, self.line()?);
            return Ok(Value::Class(format!("{module}.{name}")));
        }
        let (name, module) = (self.pop()?, self.pop()?);
        let (Value::Text(module), Value::Text(name)) = (module, name) else {
            return Err("a class without a name".into());
        };
        Ok(Value::Class(format!("{module}.{name}")))
    }
}

/// Whether a class occurs in valid pickles of `LMDB_Image`.
fn expected(class: &str) -> bool {
    let last = class.rsplit('.').next().unwrap_or_default();
    let numpy = class.starts_with("numpy.") && ["_reconstruct", "_frombuffer", "ndarray", "dtype"].contains(&last);
    let plain = ["_codecs.encode", "copyreg._reconstructor", "copy_reg._reconstructor"].contains(&class);
    last == "LMDB_Image" || numpy || plain
}

fn field<'v>(state: &'v Value, name: &str) -> Result<&'v Value> {
    let Value::Dict(d) = state else { return Err("its state is no dictionary".into()) };
    let found = d.iter().find(|(k, _)| matches!(k, Value::Text(t) if t == name));
    found.map(|(_, v)| v).ok_or_else(|| format!("it has no `{name}`"))
}

/// Bytes of the field `image`: plain, as Latin-1 text (protocol 2), or of a numpy array.
fn bytes(v: &Value) -> Result<Vec<u8>> {
    match v {
        Value::Bytes(b) => Ok(b.clone()),
        Value::Object(o) if o.class == "_codecs.encode" => match o.args.as_slice() {
            [Value::Text(t), ..] => t.chars().map(|c| u8::try_from(u32::from(c)).map_err(|e| e.to_string())).collect(),
            _ => Err("bytes in an unknown coding".into()),
        },
        // numpy: _reconstruct(ndarray, …) with the state (version, shape, dtype, is Fortran, data).
        Value::Object(o) if o.class.starts_with("numpy.") && o.class.ends_with("_reconstruct") => match &o.state {
            Some(Value::Tuple(s)) if s.len() == 5 => {
                if matches!(s[3], Value::Int(1)) {
                    return Err("an array in Fortran's order".into());
                }
                bytes(&s[4])
            }
            _ => Err("a numpy array without data".into()),
        },
        // Protocol 5: numpy's _frombuffer(data, dtype, shape, order).
        Value::Object(o) if o.class.ends_with("_frombuffer") => match o.args.first() {
            Some(v) => bytes(v),
            None => Err("a numpy array without data".into()),
        },
        _ => Err("`image` is not bytes".into()),
    }
}

/// Reads the image in a pickled `LMDB_Image`.
///
/// # Errors
/// A description of the defect when the bytes are not such a pickle.
pub fn picture(pickle: &[u8]) -> Result<Rgb> {
    let value =
        Reader { bytes: pickle, stack: vec![], memo: HashMap::new(), budget: 2 * pickle.len() + (1 << 20) }.run()?;
    let Value::Object(o) = value else { return Err("it is no object".into()) };
    if o.class.rsplit('.').next() != Some("LMDB_Image") && !o.class.ends_with("_reconstructor") {
        return Err(format!("it is a {}, not an LMDB_Image", o.class));
    }
    let state = o.state.as_ref().ok_or("an object without content")?;
    let int = |v: &Value| match v {
        Value::Int(i) if *i >= 0 => Ok(*i as u64),
        _ => Err("a size that is no number".to_string()),
    };
    let channels = int(field(state, "channels")?)? as usize;
    let (height, width) = match field(state, "size")? {
        Value::Tuple(v) | Value::List(v) if v.len() == 2 => (int(&v[0])?, int(&v[1])?),
        _ => return Err("`size` is not two numbers".into()),
    };
    if width == 0 || height == 0 || width.checked_mul(height).is_none_or(|n| n > MAX_PIXELS) {
        return Err(format!("it claims {width}×{height} pixels"));
    }
    if ![1, 3, 4].contains(&channels) {
        return Err(format!("{channels} channels"));
    }
    let data = bytes(field(state, "image")?)?;
    let (width, height) = (width as usize, height as usize);
    if data.len() != width * height * channels {
        return Err(format!("{} bytes for {width}×{height} pixels of {channels} channels", data.len()));
    }
    let data = match channels {
        3 => data,
        1 => data.iter().flat_map(|&v| [v; 3]).collect(),
        4 => data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        n => return Err(format!("{n} channels")),
    };
    Ok(Rgb { width, height, data })
}
