//! What a tenant's inference may hold at once.

use super::Room;

/// With more undominated bundles than this a tenant is taken to hold fractions of instances: a looser bound that is still one.
const MOST_BUNDLES: usize = 600;

/// What a tenant may hold at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Offer {
    /// Undominated sets of whole instances, the empty one included.
    Whole(Vec<Bundle>),
    /// Any fraction of any kind: capacity by kind.
    Fractions(Vec<f64>),
}

/// A set of instances.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bundle {
    /// Requests/s.
    pub rps: f64,
    /// Room it takes, by row.
    pub room: Vec<f64>,
}

/// The cheapest thing to hold for one second, for the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    /// The bundle of this index.
    Bundle(usize),
    /// So many instances of this kind.
    Part(usize, f64),
}

impl Offer {
    /// All that is worth holding for at most `peak_rps`, capacities by kind.
    pub fn new(room: &Room, rps: &[f64], peak_rps: f64) -> Offer {
        let mut found = vec![Bundle { rps: 0.0, room: vec![0.0; room.most.len()] }];
        for (kind, &one) in rps.iter().enumerate().filter(|(_, one)| **one > 0.0) {
            let alpha = &room.kinds[kind];
            let mut grown = found.clone();
            for bundle in &found {
                let mut next = more(bundle, one, alpha);
                let enough = |bundle: &Bundle| bundle.rps - one >= peak_rps;
                while !enough(&next) && next.room.iter().zip(&room.most).all(|(used, most)| used <= most) {
                    grown.push(next.clone());
                    next = more(&next, one, alpha);
                }
            }
            found = undominated(grown, peak_rps);
            if found.len() > MOST_BUNDLES {
                return Offer::Fractions(rps.to_vec());
            }
        }
        Offer::Whole(found)
    }

    /// The most that `worth` per answer of `arrivals` brings at these prices by row, with the choice that brings it.
    pub fn best(&self, room: &Room, prices: &[f64], arrivals: f64, worth: f64) -> (f64, Choice) {
        match self {
            Offer::Whole(bundles) => {
                let value = |bundle: &Bundle| worth * bundle.rps.min(arrivals) - cost(prices, &bundle.room);
                let mut best = (f64::NEG_INFINITY, Choice::Bundle(0));
                for (index, bundle) in bundles.iter().enumerate() {
                    let value = value(bundle);
                    if value > best.0 {
                        best = (value, Choice::Bundle(index));
                    }
                }
                best
            }
            Offer::Fractions(rps) => {
                let mut best = (0.0, Choice::Part(0, 0.0));
                for (kind, &one) in rps.iter().enumerate().filter(|(_, one)| **one > 0.0) {
                    let value = arrivals * (worth - cost(prices, &room.kinds[kind]) / one);
                    if value > best.0 {
                        best = (value, Choice::Part(kind, arrivals / one));
                    }
                }
                best
            }
        }
    }

    /// Adds what `choice` takes to `used`, by row.
    pub fn add(&self, room: &Room, choice: Choice, used: &mut [f64]) {
        match (self, choice) {
            (Offer::Whole(bundles), Choice::Bundle(index)) => used.iter_mut().zip(&bundles[index].room).for_each(|(sum, a)| *sum += a),
            (_, Choice::Part(kind, count)) => used.iter_mut().zip(&room.kinds[kind]).for_each(|(sum, a)| *sum += count * a),
            _ => {}
        }
    }
}

/// Σ_r μ_r α_r.
pub(crate) fn cost(prices: &[f64], room: &[f64]) -> f64 {
    prices.iter().zip(room).map(|(price, alpha)| price * alpha).sum()
}

fn more(bundle: &Bundle, rps: f64, alpha: &[f64]) -> Bundle {
    Bundle { rps: bundle.rps + rps, room: bundle.room.iter().zip(alpha).map(|(used, a)| used + a).collect() }
}

/// Those that no other beats in capacity up to the peak while taking no more of any row.
fn undominated(mut all: Vec<Bundle>, peak_rps: f64) -> Vec<Bundle> {
    all.iter_mut().for_each(|bundle| bundle.rps = bundle.rps.min(peak_rps));
    // By falling capacity: only what comes before can beat.
    all.sort_by(|a, b| {
        let room = |bundle: &Bundle| bundle.room.iter().sum::<f64>();
        b.rps.total_cmp(&a.rps).then(room(a).total_cmp(&room(b)))
    });
    let mut kept: Vec<Bundle> = Vec::new();
    for bundle in all {
        let beaten = kept.iter().any(|other| other.room.iter().zip(&bundle.room).all(|(a, b)| a <= b));
        if !beaten {
            kept.push(bundle);
        }
    }
    kept
}
