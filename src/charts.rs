//! What the crate's pictures of figures share: colours, and the numbers along axes.

/// Colours of Okabe and Ito (2008), which people who see few colours tell apart.
pub(crate) const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"];

/// Round numbers from `low` to `high`, about five, with their text.
pub(crate) fn ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * power).find(|step| *step >= rough).unwrap_or(rough);
    let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    let first = (low / step).ceil() as i64;
    let all = (first..).map(|i| i as f64 * step).take_while(|tick| *tick <= high).take(20);
    // More digits than a label has room for.
    let text = |tick: f64| if step >= 1e7 { format!("{tick:.1e}") } else { format!("{tick:.digits$}") };
    all.map(|tick| (tick, text(tick))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let text = |low, high| ticks(low, high).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(text(0.0, 1.0), ["0.0", "0.5", "1.0"]);
        assert_eq!(text(2.1, 3.3), ["2.5", "3.0"]);
        assert_eq!(text(0.0, 130.0), ["0", "50", "100"]);
        assert_eq!(text(-0.02, 0.02), ["-0.02", "-0.01", "0.00", "0.01", "0.02"]);
    }
}
