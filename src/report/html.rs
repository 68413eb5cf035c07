//! HTML output of a report page.

use super::{Page, Person, plot};
use html_escape::encode_text as esc;
use std::fmt::Write;

const STYLE: &str = "
:root{--fg:#1c1e21;--bg:#fff;--soft:#666;--line:#ddd;--mark:#e8f5e9;--box:#f7f7f8}
@media(prefers-color-scheme:dark){:root{--fg:#e6e6e6;--bg:#16181b;--soft:#9aa0a6;--line:#3a3d42;--mark:#1e3a2a;--box:#1f2226}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.2rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .42rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
.note{color:var(--soft);font-size:.9rem}svg{max-width:100%;height:auto}svg text{font-size:12px;fill:var(--soft)}
svg .grid{stroke:var(--line)}.person{background:var(--box);border-radius:8px;padding:.8rem 1rem;margin:1rem 0}
.cols{display:grid;grid-template-columns:repeat(auto-fit,minmax(14rem,1fr));gap:1rem}
ol{padding-left:1.3rem;margin:.3rem 0}li.hit{background:var(--mark);border-radius:4px;font-weight:600}
pre{background:var(--box);padding:.8rem;border-radius:8px;overflow-x:auto}";

/// Renders the whole page as HTML.
pub fn page(p: &Page) -> String {
    let mut s = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{}</title><style>{STYLE}</style></head><body>\n\
         <h1>{}</h1>\n",
        esc(&p.title),
        esc(&p.title)
    );
    for text in &p.intro {
        let _ = writeln!(s, "<p>{}</p>", esc(text));
    }
    if let Some((head, rows)) = p.table.split_first() {
        s += "<h2>Test results</h2><div class=\"scroll\"><table><thead><tr>";
        head.iter().for_each(|c| s += &format!("<th>{}</th>", esc(c)));
        s += "</tr></thead><tbody>\n";
        for row in rows {
            s += "<tr>";
            row.iter().for_each(|c| s += &format!("<td>{}</td>", esc(c)));
            s += "</tr>\n";
        }
        let _ = writeln!(s, "</tbody></table></div><p class=\"note\">{}</p>", esc(&p.note));
    }
    let svg = plot::lines(&p.curves, &p.plot.1, &p.plot.2);
    if !svg.is_empty() {
        let _ = writeln!(s, "<h2>{}</h2>{svg}", esc(&p.plot.0));
    }
    if !p.people.is_empty() {
        s += "<h2>Some users</h2><p class=\"note\">What each took next was hidden from every method; where an offer holds it, it is marked.</p>\n";
        p.people.iter().for_each(|who| person(&mut s, who));
    }
    if !p.next.is_empty() {
        let _ = writeln!(s, "<h2>On your own data</h2><pre>{}</pre>", esc(&p.next.join("\n")));
    }
    s + "</body></html>\n"
}

fn person(s: &mut String, who: &Person) {
    let list = |titles: &[String], hit: &str| {
        let item = |t: &String| format!("<li{}>{}</li>", if t == hit { " class=\"hit\"" } else { "" }, esc(t));
        format!("<ol>{}</ol>", titles.iter().map(item).collect::<String>())
    };
    let _ = write!(
        s,
        "<div class=\"person\"><strong>{}</strong><div class=\"cols\"><div>history, oldest first{}then took: <em>{}</em></div>",
        esc(&who.user),
        list(&who.history, "\0"),
        esc(&who.next)
    );
    for (method, titles) in &who.offers {
        let _ = write!(s, "<div>{}{}</div>", esc(method), list(titles, &who.next));
    }
    *s += "</div></div>\n";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Curve;

    #[test]
    fn a_page_marks_hits_and_escapes_titles() {
        let p = Page {
            title: "A & B".into(),
            table: vec![vec!["method".into(), "HR".into()], vec!["<full>".into(), "1.00".into()]],
            curves: vec![Curve { name: "full".into(), points: vec![(1.0, 2.0), (2.0, 3.0)] }],
            people: vec![Person {
                user: "u1".into(),
                history: vec!["<script>alert(1)</script>".into()],
                next: "Tom & Jerry".into(),
                offers: vec![("full".into(), vec!["other".into(), "Tom & Jerry".into()])],
            }],
            ..Default::default()
        };
        let s = page(&p);
        assert!(!s.contains("<script") && s.contains("&lt;full&gt;") && s.contains("<title>A &amp; B</title>"), "{s}");
        assert!(s.contains("<li class=\"hit\">Tom &amp; Jerry</li>") && s.contains("<li>other</li>"), "{s}");
        assert!(s.contains("<polyline") && s.matches("<div").count() == s.matches("</div>").count());
        // The page loads no external resources.
        assert!(!s.contains("http") && !s.contains("src="));
    }
}
