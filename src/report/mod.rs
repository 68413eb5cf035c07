//! Results as a page: one HTML file that needs nothing beside it.

mod html;
mod plot;

pub use html::page;

use serde::Serialize;

/// What a page shows.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Page {
    /// Heading.
    pub title: String,
    /// Paragraphs under it.
    pub intro: Vec<String>,
    /// A table, header first, and the line below it.
    pub table: Vec<Vec<String>>,
    /// Protocol and the like.
    pub note: String,
    /// Heading of the plot, then its axes.
    pub plot: (String, String, String),
    /// Lines of the plot.
    pub curves: Vec<Curve>,
    /// Users with what was recommended to them.
    pub people: Vec<Person>,
    /// How to go on: commands.
    pub next: Vec<String>,
}

/// A line of a plot.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// Legend.
    pub name: String,
    /// Points from left to right.
    pub points: Vec<(f64, f64)>,
}

/// One user: what came before, what came next, what each method would have offered.
#[derive(Debug, Clone, Serialize)]
pub struct Person {
    /// Raw id.
    pub user: String,
    /// Titles, oldest first.
    pub history: Vec<String>,
    /// What the user took next.
    pub next: String,
    /// Method → titles, best first.
    pub offers: Vec<(String, Vec<String>)>,
}
