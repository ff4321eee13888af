//! Contenders that take turns within one run, and what their times say.
//!
//! Absolute times differ between runs of one binary on a shared machine, so what counts is the ratio within a turn, and
//! its median over many. A turn is *disturbed* when the contender that the others are compared with took more than 3 %
//! longer than in its fast ones: somebody else has the core's other thread, or its frequency. Both kinds are reported.

/// The longest that is measured, as a multiple of the turns that were asked for, until so many were undisturbed.
const PATIENCE: usize = 10;

/// A contender's name and what runs its round and says how long an operation took.
pub type Contender<'a> = (&'a str, &'a dyn Fn() -> f64);

/// Lets the contenders take turns, the order turning too, until `turns` of them were undisturbed, or long enough.
pub fn take(turns: usize, contenders: &[Contender<'_>], against: usize) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); contenders.len()];
    for turn in 0..turns * PATIENCE {
        for place in 0..contenders.len() {
            let which = (turn + place) % contenders.len();
            times[which].push(contenders[which].1());
        }
        if (turn + 1) % turns == 0
            && undisturbed(&times[against]).iter().filter(|&&calm| calm).count() >= turns
        {
            break;
        }
    }
    times
}

/// Prints a line for each contender, and `title` with the ratio of the one that `counts`.
pub fn report(title: &str, unit: &str, names: &[&str], times: &[Vec<f64>], against: usize, counts: usize) {
    let calm = undisturbed(&times[against]);
    for (name, own) in names.iter().zip(times) {
        let (ratios, others) = ratios(own, &times[against], &calm);
        let (low, middle, high) = (share(&ratios, 0.05), share(&ratios, 0.5), share(&ratios, 0.95));
        let time = share(&sorted(own.iter().copied()), 0.5);
        println!(
            "{title}: {name:<24} {time:8.2} {unit}, {middle:.3} x {} (middle 90 %: {low:.3} to {high:.3}; \
             disturbed {:.3})",
            names[against],
            share(&others, 0.5),
        );
    }
    let (ratios, others) = ratios(&times[counts], &times[against], &calm);
    println!(
        "{title} {:.3} (undisturbed, {} turns; disturbed {:.3}, {} turns)",
        share(&ratios, 0.5),
        ratios.len(),
        share(&others, 0.5),
        others.len()
    );
}

/// Which turns were undisturbed.
fn undisturbed(against: &[f64]) -> Vec<bool> {
    // Not the very fastest, which may be an exception.
    let fastest = share(&sorted(against.iter().copied()), 0.05);
    against.iter().map(|&time| time <= fastest * 1.03).collect()
}

/// The ratios in undisturbed turns and in the others, each from low to high.
fn ratios(own: &[f64], against: &[f64], calm: &[bool]) -> (Vec<f64>, Vec<f64>) {
    let of = |kind: bool| {
        let turns = own.iter().zip(against).zip(calm);
        sorted(turns.filter(|&(_, &calm)| calm == kind).map(|((own, against), _)| own / against))
    };
    (of(true), of(false))
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// The figure that so large a share of all lies below; not a number if there is none.
fn share(figures: &[f64], share: f64) -> f64 {
    let place = (figures.len() as f64 * share) as usize;
    figures.get(place.min(figures.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
