//! Which file of `src/` uses items of which other, read from the sources.
//!
//! A reference counts for the file that defines the item, through any number of re-exports. Neither `mod x;` nor
//! `pub use x::Y;` is a use of `x`, unless the file names `Y` elsewhere. Inline test modules are left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};

/// A token of Rust source and its line, from 1. Comments, literals and lifetimes are left out; `::` is one token.
pub struct Token {
    pub text: String,
    pub line: usize,
}

pub fn tokens(source: &str) -> Vec<Token> {
    let c: Vec<char> = source.chars().collect();
    let at = |i: usize| c.get(i).copied().unwrap_or('\0');
    let (mut i, mut line, mut out) = (0, 1, vec![]);
    let is_word = |ch: char| ch.is_alphanumeric() || ch == '_';
    while i < c.len() {
        let start = i;
        if c[i] == '/' && at(i + 1) == '/' {
            while i < c.len() && c[i] != '\n' {
                i += 1;
            }
        } else if c[i] == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            loop {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 || i >= c.len() {
                    break;
                }
            }
        } else if c[i] == '"' {
            i += 1;
            while i < c.len() && c[i] != '"' {
                i += if c[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c[i] == '\'' {
            // A character, or a lifetime.
            i += 1;
            if at(i) == '\\' || at(i + 1) == '\'' {
                i += if at(i) == '\\' { 2 } else { 1 };
                while i < c.len() && c[i] != '\'' {
                    i += 1;
                }
                i += 1;
            } else {
                while is_word(at(i)) {
                    i += 1;
                }
            }
        } else if is_word(c[i]) {
            while is_word(at(i)) {
                i += 1;
            }
            let word: String = c[start..i].iter().collect();
            let hashes = (i..).take_while(|&j| at(j) == '#').count();
            if ["r", "br", "cr"].contains(&word.as_str()) && at(i + hashes) == '"' {
                let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                i += hashes + 1;
                while i < c.len() && !c[i..].starts_with(&end) {
                    i += 1;
                }
                i += end.len();
            } else {
                out.push(Token { text: word, line });
            }
        } else if c[i] == ':' && at(i + 1) == ':' {
            out.push(Token { text: "::".into(), line });
            i += 2;
        } else {
            if !c[i].is_whitespace() {
                out.push(Token { text: c[i].into(), line });
            }
            i += 1;
        }
        line += c[start..i.min(c.len())].iter().filter(|&&ch| ch == '\n').count();
    }
    out
}

/// Name, first line and number of lines of each function with a body.
pub fn functions(tokens: &[Token]) -> Vec<(String, usize, usize)> {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let mut out = vec![];
    for i in (0..tokens.len()).filter(|&i| text(i) == "fn" && text(i + 1) != "(") {
        let mut nested = 0;
        let body = (i..tokens.len()).find(|&j| {
            nested += i32::from(["(", "["].contains(&text(j))) - i32::from([")", "]"].contains(&text(j)));
            nested == 0 && ["{", ";"].contains(&text(j))
        });
        if let Some(body) = body.filter(|&j| text(j) == "{") {
            let last = tokens[closing(tokens, body)].line;
            out.push((text(i + 1).into(), tokens[i].line, last + 1 - tokens[i].line));
        }
    }
    out
}

/// The `}` of the `{` at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    let end = (open..tokens.len()).find(|&i| {
        depth += i32::from(tokens[i].text == "{") - i32::from(tokens[i].text == "}");
        depth == 0
    });
    end.unwrap_or(tokens.len() - 1)
}

/// A path of a `use`: segments from the crate's root, the name it gets (`*`: all), whether it is re-exported.
struct Import {
    path: Vec<String>,
    name: String,
    public: bool,
}

/// A module that is a file.
#[derive(Default)]
struct Module {
    /// Relative to `src/`.
    file: String,
    imports: Vec<Import>,
    /// Items defined in it, and inline modules.
    defined: BTreeSet<String>,
    /// Its paths of two or more segments outside `use`, as written.
    paths: Vec<Vec<String>>,
    /// Identifiers outside `use`.
    words: BTreeSet<String>,
}

/// Segments from the root: `crate`, `self`, `super` and child modules are resolved; `None` for other crates.
fn absolute(path: &[String], module: &[String], children: &dyn Fn(&[String]) -> bool) -> Option<Vec<String>> {
    let mut base = match path.first()?.as_str() {
        "crate" => vec![],
        "self" => module.to_vec(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        first => {
            let child: Vec<String> = module.iter().cloned().chain([first.to_string()]).collect();
            return children(&child).then(|| module.iter().chain(path).cloned().collect());
        }
    };
    for s in &path[1..] {
        match s.as_str() {
            "super" => base.truncate(base.len().checked_sub(1)?),
            "self" => {}
            s => base.push(s.into()),
        }
    }
    Some(base)
}

/// Reads the tree after `use`; gives each path as written and its name. Returns the index of the `;`.
fn use_tree(t: &[Token], mut i: usize, prefix: &[String], out: &mut Vec<(Vec<String>, String)>) -> usize {
    let mut path = prefix.to_vec();
    let mut name = String::new();
    loop {
        match t[i].text.as_str() {
            "::" => {}
            "{" => {
                i += 1;
                while t[i].text != "}" {
                    i = use_tree(t, i, &path, out);
                    assert!([",", "}"].contains(&t[i].text.as_str()), "line {}: no `use` tree", t[i].line);
                    i += usize::from(t[i].text == ",");
                }
                return i + 1;
            }
            "as" => {
                i += 1;
                name = t[i].text.clone();
            }
            "," | ";" | "}" => break,
            "self" if path.len() > prefix.len() || !prefix.is_empty() => {}
            "*" => name = "*".into(),
            s => path.push(s.into()),
        }
        i += 1;
    }
    if name.is_empty() {
        name = path.last().cloned().unwrap_or_default();
    }
    out.push((path, name));
    i
}

/// All files below `src` but `main.rs`, by module path.
struct Crate(BTreeMap<Vec<String>, Module>);

impl Crate {
    fn read(src: &Path, files: &[PathBuf]) -> Self {
        let mut all = BTreeMap::new();
        let mut sources = vec![];
        for f in files {
            let file = f.strip_prefix(src).unwrap().to_string_lossy().replace('\\', "/");
            let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(String::from).collect();
            if path == ["main"] {
                continue;
            }
            if path == ["lib"] || path.last().is_some_and(|p| p == "mod") {
                path.pop();
            }
            sources.push((path.clone(), tokens(&std::fs::read_to_string(f).unwrap())));
            all.insert(path, Module { file, ..Default::default() });
        }
        for (path, tokens) in &sources {
            let module = scan(path, tokens, &|p: &[String]| all.contains_key(p));
            let file = std::mem::take(&mut all.get_mut(path).unwrap().file);
            all.insert(path.clone(), Module { file, ..module });
        }
        Self(all)
    }

    /// The module whose file defines what `path` names; `None` for a module itself.
    fn definer(&self, path: &[String], depth: usize) -> Option<&[String]> {
        let known = (0..=path.len()).rev().find(|&n| self.0.contains_key(&path[..n]))?;
        let (key, module) = self.0.get_key_value(&path[..known])?;
        let item = path.get(known)?;
        if depth > 8 || module.defined.contains(item) {
            return Some(key);
        }
        let through =
            |target: &[String], rest: &[String]| -> Vec<String> { target.iter().chain(rest).cloned().collect() };
        if let Some(import) = module.imports.iter().find(|i| i.name == *item) {
            return self.definer(&through(&import.path, &path[known + 1..]), depth + 1);
        }
        let globs = module.imports.iter().filter(|i| i.name == "*");
        let found = globs
            .filter_map(|i| self.definer(&through(&i.path, &path[known..]), depth + 1))
            .find(|k| self.0[*k].defined.contains(item));
        found.or(Some(key))
    }

    /// Files that each file uses.
    fn edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut all = BTreeMap::new();
        for (path, module) in &self.0 {
            let mut used: BTreeSet<&str> = BTreeSet::new();
            let mut add = |target: &[String]| {
                if let Some(key) = self.definer(target, 0).filter(|key| *key != path.as_slice()) {
                    used.insert(&self.0[key].file);
                }
            };
            for import in module.imports.iter().filter(|i| !i.public || module.words.contains(&i.name)) {
                match import.name.as_str() {
                    "*" => add(&import.path.iter().cloned().chain(["*".into()]).collect::<Vec<_>>()),
                    _ => add(&import.path),
                }
            }
            let names: HashMap<&str, &Import> = module.imports.iter().map(|i| (i.name.as_str(), i)).collect();
            for p in &module.paths {
                let target = match names.get(p[0].as_str()) {
                    Some(import) => Some(import.path.iter().chain(&p[1..]).cloned().collect()),
                    None => absolute(p, path, &|child| self.0.contains_key(child)),
                };
                target.iter().for_each(|t| add(t));
            }
            all.insert(module.file.as_str(), used);
        }
        all
    }
}

/// What a file defines, imports and names.
fn scan(path: &[String], t: &[Token], is_module: &dyn Fn(&[String]) -> bool) -> Module {
    let text = |i: usize| t.get(i).map_or("", |t| t.text.as_str());
    let is_name = |s: &str| s.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    let mut out = Module::default();
    let (mut i, mut depth) = (0, 0);
    while i < t.len() {
        match text(i) {
            // `#[cfg(test)] mod x { … }`
            "mod" if text(i + 2) == "{" && i >= 4 && text(i - 3) == "test" => {
                i = closing(t, i + 2);
            }
            "use" if text(i + 1) != "<" => {
                let public = i > 0 && (text(i - 1) == "pub" || text(i - 1) == ")");
                let mut found = vec![];
                i = use_tree(t, i + 1, &[], &mut found);
                for (written, name) in found {
                    if let Some(path) = absolute(&written, path, is_module) {
                        out.imports.push(Import { path, name, public });
                    }
                }
            }
            "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" if depth == 0 => {
                out.defined.insert(text(i + 1 + usize::from(text(i + 1) == "mut" || text(i + 1) == "fn")).into());
            }
            "mod" if text(i + 2) == "{" => {
                out.defined.insert(text(i + 1).into());
            }
            "macro_rules" => {
                out.defined.insert(text(i + 2).into());
            }
            "{" => depth += 1,
            "}" => depth -= 1,
            s if is_name(s) && (i == 0 || text(i - 1) != "::") => {
                let mut p = vec![s.to_string()];
                while text(i + 1) == "::" && is_name(text(i + 2)) {
                    p.push(text(i + 2).into());
                    i += 2;
                }
                out.words.insert(p[0].clone());
                if p.len() > 1 {
                    out.paths.push(p);
                }
            }
            _ => {}
        }
        i += 1;
    }
    out
}

/// Files that use each other, directly or through others.
pub struct Circle {
    /// All of them, relative to `src/`.
    pub files: Vec<String>,
    /// A shortest way from one of them back to itself: `a → b → a`.
    pub example: String,
}

/// The circles among the files below `src`, and how many uses of one file by another there are.
pub fn circles(src: &Path, files: &[PathBuf]) -> (Vec<Circle>, usize) {
    let all = Crate::read(src, files);
    let edges = all.edges();
    let reach: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|&f| (f, reachable(&edges, f))).collect();
    let groups: BTreeSet<Vec<&str>> = reach
        .iter()
        .filter(|(from, reached)| reached.contains(*from))
        .map(|(from, reached)| reached.iter().copied().filter(|g| reach[g].contains(from)).collect())
        .collect();
    let circle = |group: &Vec<&str>| Circle {
        files: group.iter().map(|f| f.to_string()).collect(),
        example: shortest_circle(&edges, group[0]).join(" → "),
    };
    (groups.iter().map(circle).collect(), edges.values().map(BTreeSet::len).sum())
}

fn reachable<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
    while let Some(f) = todo.pop() {
        todo.extend(edges[f].iter().filter(|&&g| seen.insert(g)));
    }
    seen
}

/// A shortest way from `start`, which lies on a circle, back to it: breadth first.
fn shortest_circle<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>, start: &'a str) -> Vec<&'a str> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for &next in edges[way[way.len() - 1]].iter() {
            let longer: Vec<&str> = way.iter().copied().chain([next]).collect();
            if next == start {
                return longer;
            }
            if seen.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    vec![start]
}

#[test]
fn circles_are_found_through_reexports_and_module_names() {
    let dir = tempfile::tempdir().unwrap();
    let found = |files: &[(&str, &str)]| {
        let src = dir.path().join(format!("{}", files.as_ptr() as usize));
        let paths: Vec<PathBuf> = files.iter().map(|(name, _)| src.join(name)).collect();
        for (path, (_, text)) in paths.iter().zip(files) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let (all, _) = circles(&src, &paths);
        all.iter().map(|c| c.example.clone()).collect::<Vec<_>>()
    };
    let lib = ("lib.rs", "pub mod a; pub use a::one::First;");
    // `a/mod.rs` only re-exports: what uses the re-export uses the file behind it.
    let through = [
        lib,
        ("a/mod.rs", "mod one; mod two; pub use one::First;"),
        ("a/one.rs", "use super::two;\npub struct First; fn f() { two::g() }"),
        ("a/two.rs", "pub fn g() { let _: Option<crate::First> = None; }"),
    ];
    assert_eq!(found(&through), ["a/one.rs → a/two.rs → a/one.rs"]);
    // A file that uses an item of `mod.rs`, whose own code uses the file.
    let module = [
        lib,
        ("a/mod.rs", "mod one; pub use one::First; pub trait T {} fn make() -> First { First }"),
        ("a/one.rs", "pub struct First; impl super::T for First {}"),
    ];
    assert_eq!(found(&module), ["a/mod.rs → a/one.rs → a/mod.rs"]);
    // Comments, literals, test modules, and names of modules alone are no uses.
    let none = [
        lib,
        ("a/mod.rs", "mod one; mod two; pub use {one::First, two::*}; pub trait T {}"),
        ("a/one.rs", "use super::{T, two};\n/* super::two::g */ pub struct First; impl T for First {}"),
        (
            "a/two.rs",
            "// super::one::First\nconst S: &str = r#\"\" super::one::First\"#; const C: char = '\"';\n\
             #[cfg(test)] mod tests { use super::super::one::First; }",
        ),
    ];
    assert_eq!(found(&none), [""; 0]);
}

#[test]
fn functions_are_measured_from_fn_to_brace() {
    let source =
        "trait A { fn no(&self); }\nfn one() {}\nfn two<F: Fn(u8)>(\n    f: F,\n) {\n    \"}\";\n}\ntype P = fn(u8);\n";
    assert_eq!(functions(&tokens(source)), [("one".to_string(), 2, 1), ("two".to_string(), 3, 5)]);
}
