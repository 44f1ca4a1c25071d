//! 1×16×16 images of 10 classes: each class is a smooth pattern (a 5×5 grid, interpolated) that morphs into an unrelated one; samples
//! are shifted by up to a pixel, differ in contrast, carry a distortion of the pattern and noise in the pixels.

use rand::Rng;

use super::noise::{normal, rounded};
use super::prototype::Prototypes;
use crate::reader::{Features, Row};

pub(super) const CLASSES: usize = 10;
pub(super) const SIDE: usize = 16;

const GRID: usize = 5;
/// Windows for a quarter turn.
const PERIOD: f64 = 3.0;
/// Distortion of a sample's pattern, per grid point of a pattern of length 1: what keeps the best classifier below 1.
const DISTORTION: f32 = 0.2;
/// Noise of a pixel; patterns have a root mean square near 0.7.
const PIXEL_NOISE: f32 = 0.25;

/// The concept.
#[derive(Clone, Debug)]
pub(super) struct Vision {
    patterns: Prototypes,
    grid: [f32; GRID * GRID],
}

impl Vision {
    pub(super) fn new(seed: u64) -> Self {
        Vision { patterns: Prototypes::new(seed ^ 0x71_5109, CLASSES, GRID * GRID, PERIOD), grid: [0.0; GRID * GRID] }
    }

    pub(super) fn sample(&mut self, drift: f64, rng: &mut impl Rng) -> Row {
        let label = rng.random_range(0..CLASSES);
        self.patterns.write(label, drift, &mut self.grid);
        let contrast = 5.0 * rng.random_range(0.7..1.3);
        self.grid.iter_mut().for_each(|g| *g = contrast * (*g + DISTORTION * normal(rng)));
        let (dx, dy) = (rng.random_range(-1..=1), rng.random_range(-1..=1));
        let mut pixels = Vec::with_capacity(SIDE * SIDE);
        for y in 0..SIDE as i32 {
            for x in 0..SIDE as i32 {
                pixels.push(rounded(self.interpolate(x + dx, y + dy) + PIXEL_NOISE * normal(rng)));
            }
        }
        Row { features: Features::Numbers(pixels), label: label as u32 }
    }

    /// The pattern at a pixel: bilinear between grid points 3.75 pixels apart; beyond the edge the edge goes on.
    fn interpolate(&self, x: i32, y: i32) -> f32 {
        let place = |p: i32| {
            let p = p.clamp(0, SIDE as i32 - 1) as usize * (GRID - 1);
            let cell = (p / (SIDE - 1)).min(GRID - 2);
            (cell, (p - cell * (SIDE - 1)) as f32 / (SIDE - 1) as f32)
        };
        let ((column, right), (row, down)) = (place(x), place(y));
        let at = |r: usize, c: usize| self.grid[r * GRID + c];
        let top = at(row, column) * (1.0 - right) + at(row, column + 1) * right;
        let bottom = at(row + 1, column) * (1.0 - right) + at(row + 1, column + 1) * right;
        top * (1.0 - down) + bottom * down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolation_meets_the_grid_points() {
        let mut vision = Vision::new(1);
        vision.grid = std::array::from_fn(|i| i as f32);
        assert_eq!(vision.interpolate(0, 0), 0.0);
        assert_eq!(vision.interpolate(15, 15), 24.0);
        assert_eq!(vision.interpolate(20, -3), 4.0);
        assert!((vision.interpolate(5, 0) - 4.0 / 3.0).abs() < 1e-6);
    }
}
