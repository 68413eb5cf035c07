//! Report of results as one self-contained HTML file.

mod html;
mod plot;

pub use html::page;

use serde::Serialize;

/// Contents of a report page.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Page {
    /// Heading of the page.
    pub title: String,
    /// Paragraphs below the heading.
    pub intro: Vec<String>,
    /// Table of results; the first row is the header.
    pub table: Vec<Vec<String>>,
    /// Note below the table, such as the protocol.
    pub note: String,
    /// Heading of the plot, then the labels of its x and y axes.
    pub plot: (String, String, String),
    /// Curves of the plot.
    pub curves: Vec<Curve>,
    /// Example users with their recommendations.
    pub people: Vec<Person>,
    /// Shell commands for next steps.
    pub next: Vec<String>,
}

/// A curve of the plot.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// Name in the legend.
    pub name: String,
    /// Points (x, y), ascending in x.
    pub points: Vec<(f64, f64)>,
}

/// An example user: history, target item, and the recommendation list of each method.
#[derive(Debug, Clone, Serialize)]
pub struct Person {
    /// Raw user id.
    pub user: String,
    /// Titles of the history, oldest first.
    pub history: Vec<String>,
    /// Title of the target item.
    pub next: String,
    /// Recommendation lists: method name and titles, best first.
    pub offers: Vec<(String, Vec<String>)>,
}
