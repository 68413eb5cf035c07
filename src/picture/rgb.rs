//! A decoded image.

/// An RGB image of 8 bits per channel, in row order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Red, green and blue of each pixel: `3 · width · height` values.
    pub data: Vec<u8>,
}

impl Rgb {
    /// Creates an image of one colour.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self { width, height, data: colour.repeat(width * height) }
    }
    /// Returns the crop of `width` × `height` with its upper left corner at (x, y).
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Self {
        let mut data = Vec::with_capacity(3 * width * height);
        for row in y..y + height {
            let from = 3 * (row * self.width + x);
            data.extend_from_slice(&self.data[from..from + 3 * width]);
        }
        Self { width, height, data }
    }
    /// Flips the image horizontally in place.
    pub fn flip(&mut self) {
        for row in self.data.chunks_exact_mut(3 * self.width) {
            for x in 0..self.width / 2 {
                let other = self.width - 1 - x;
                (0..3).for_each(|c| row.swap(3 * x + c, 3 * other + c));
            }
        }
    }
}
