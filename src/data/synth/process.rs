//! The latent-interest process described in [`super`].

use super::config::{Platform, SynthConfig};
use super::words::{DETAILS, GOODS, MEDIA, STYLES, SYLLABLES, Theme, themes};
use crate::rng::Stream;

const STAY: f64 = 0.7;
const FOLLOW: f64 = 0.3;
const OTHER_STYLE: f64 = 1.0 / 3.0;
/// Maximum number of draws before the fallback item is used.
const TRIES: usize = 24;
const FEWEST: usize = 5;
const MOST: usize = 60;
const START: i64 = 1_640_995_200;
const TWO_YEARS: f64 = 63_072_000.0;

/// Latent attributes of an item.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    pub theme: u8,
    pub style: u8,
    pub kind: u8,
}

/// Items and their cumulative popularity weights, for sampling.
#[derive(Default)]
struct Shelf {
    items: Vec<u32>,
    /// Cumulative weights.
    sums: Vec<f64>,
}

impl Shelf {
    fn add(&mut self, item: u32, weight: f64) {
        self.sums.push(self.sums.last().copied().unwrap_or(0.0) + weight);
        self.items.push(item);
    }
    fn draw(&self, s: &mut Stream) -> Option<u32> {
        let at = s.uniform() * self.sums.last()?;
        Some(self.items[self.sums.partition_point(|&x| x <= at).min(self.items.len() - 1)])
    }
}

/// Catalogue of a synthetic data set and the process that generates user histories.
pub struct World {
    config: SynthConfig,
    pub themes: Vec<Theme>,
    pub items: Vec<Item>,
    all: Shelf,
    by_theme: Vec<Shelf>,
    by_theme_and_kind: Vec<Shelf>,
}

impl World {
    pub fn new(config: &SynthConfig) -> Self {
        let n = config.items;
        let themes = themes();
        let mut s = Stream::new(config.seed, &format!("synth/{:?}/items", config.platform));
        let mut rank: Vec<u32> = (0..n as u32).collect();
        s.shuffle(&mut rank);
        let mut world = Self {
            config: config.clone(),
            items: Vec::with_capacity(n),
            all: Shelf::default(),
            by_theme: (0..themes.len()).map(|_| Shelf::default()).collect(),
            by_theme_and_kind: (0..themes.len() * MEDIA.len()).map(|_| Shelf::default()).collect(),
            themes,
        };
        for i in 0..n {
            let item = Item {
                theme: theme(&mut s, world.themes.len()) as u8,
                style: s.below(STYLES.len() as u64) as u8,
                kind: s.below(MEDIA.len() as u64) as u8,
            };
            let weight = libm::pow(f64::from(rank[i]) + 10.0, -0.9);
            world.items.push(item);
            world.all.add(i as u32, weight);
            world.by_theme[item.theme as usize].add(i as u32, weight);
            world.by_theme_and_kind[item.theme as usize * MEDIA.len() + item.kind as usize].add(i as u32, weight);
        }
        world
    }

    pub fn stream(&self, what: &str, i: usize) -> Stream {
        Stream::new(self.config.seed, &format!("synth/{:?}/{what}/{i}", self.config.platform))
    }

    pub fn kind_name(&self, i: usize) -> &'static str {
        let kinds = if self.config.platform == Platform::Media { MEDIA } else { GOODS };
        kinds[self.items[i].kind as usize]
    }

    /// Title of an item from maker, style, theme, kind and detail: `Norvex Vintage Galaxy Rocket Poster, Gift Set`.
    pub fn title(&self, i: usize) -> String {
        let item = self.items[i];
        let s = &mut self.stream("title", i);
        fn pick<'a>(s: &mut Stream, from: &[&'a str]) -> &'a str {
            from[s.below(from.len() as u64) as usize]
        }
        let mut maker = String::new();
        for _ in 0..2 + s.below(2) {
            maker.push_str(pick(s, &SYLLABLES));
        }
        let theme = &self.themes[item.theme as usize].words;
        let known = if self.config.platform == Platform::Media { &theme[..8] } else { &theme[4..] };
        let mut words = vec![maker.as_str()];
        if s.uniform() < 0.75 {
            words.push(pick(s, &STYLES[item.style as usize]));
        }
        let first = pick(s, known);
        words.push(first);
        if s.uniform() < 0.5 {
            let second = pick(s, known);
            if second != first {
                words.push(second);
            }
        }
        words.push(self.kind_name(i));
        let detail = pick(s, &DETAILS);
        let capital = |w: &str| {
            let mut c = w.chars();
            c.next().map(|f| f.to_uppercase().chain(c).collect::<String>()).unwrap_or_default()
        };
        let title = |w: &str| w.split(' ').map(capital).collect::<Vec<_>>().join(" ");
        let mut out = words.into_iter().map(title).collect::<Vec<_>>().join(" ");
        if !detail.is_empty() {
            out += &format!(", {}", title(detail));
        }
        out
    }

    /// Number of events of a user: 5 plus a geometric random number, at most 60.
    pub fn length(&self, user: usize) -> usize {
        let mean = self.config.mean_events - FEWEST as f64;
        let u = 1.0 - self.stream("length", user).uniform();
        let rest = if mean > 0.0 { (libm::log(u) / libm::log(mean / (1.0 + mean))) as usize } else { 0 };
        FEWEST + rest.min(MOST - FEWEST)
    }

    /// Events of a user as (item, seconds since 1970), ascending in time.
    pub fn history(&self, user: usize) -> Vec<(u32, i64)> {
        let length = self.length(user);
        let s = &mut self.stream("user", user);
        let n = self.themes.len();
        let interests = [theme(s, n), theme(s, n), theme(s, n)];
        let shares: [f64; 2] = if s.uniform() < 0.5 { [0.5, 5.0 / 6.0] } else { [0.6, 1.0] };
        let style = s.below(STYLES.len() as u64) as u8;
        let mut time = START as f64 + s.uniform() * TWO_YEARS;
        let mut out: Vec<(u32, i64)> = Vec::with_capacity(length);
        for _ in 0..length {
            let item = self.next(s, &interests, shares, style, &out);
            out.push((item, time as i64));
            // Exponential time between events, 6 days on average.
            time += -libm::log(1.0 - s.uniform()) * 6.0 * 86_400.0 + 1.0;
        }
        out
    }

    fn next(&self, s: &mut Stream, interests: &[usize; 3], shares: [f64; 2], style: u8, past: &[(u32, i64)]) -> u32 {
        let last = past.last().map(|&(i, _)| self.items[i as usize]);
        let mut fallback = None;
        for _ in 0..TRIES {
            let drawn = if s.uniform() < self.config.noise {
                self.all.draw(s)
            } else {
                let u = s.uniform();
                let own = interests[usize::from(u >= shares[0]) + usize::from(u >= shares[1])];
                let theme = match last {
                    Some(l) if s.uniform() < STAY => l.theme as usize,
                    _ => own,
                };
                let follows = last.filter(|_| s.uniform() < FOLLOW);
                let shelf = match follows {
                    Some(l) => &self.by_theme_and_kind[theme * MEDIA.len() + (l.kind as usize + 1) % MEDIA.len()],
                    None => &self.by_theme[theme],
                };
                let fits = |i: &u32| self.items[*i as usize].style == style;
                shelf.draw(s).filter(|i| fits(i) || s.uniform() < OTHER_STYLE)
            };
            match drawn {
                Some(i) if past.iter().all(|&(p, _)| p != i) => return i,
                Some(i) => fallback = fallback.or(Some(i)),
                None => {}
            }
        }
        // Fallback for small catalogues: the first item not in the history, or any item.
        (0..self.items.len() as u32).find(|i| past.iter().all(|(p, _)| p != i)).or(fallback).unwrap_or(0)
    }
}

/// Draws a theme; low theme indices are the most popular.
fn theme(s: &mut Stream, themes: usize) -> usize {
    let u = s.uniform();
    ((u * u * 0.7 + u * 0.3) * themes as f64) as usize
}
