//! Curves as a page in Markdown and as pictures: both scales are logarithmic.

use std::fmt::Write as _;

use crate::{
    plot::{colour, escaped},
    report::{digits, unit},
    rounds::{Kind, Setting, Unit},
};

/// What one contender costs as something grows.
pub struct Curve {
    pub name: &'static str,
    pub kind: Kind,
    pub points: Vec<(u64, f64)>,
}

/// Curves of one subject.
pub struct Chart {
    /// Its picture's file, without the ending.
    pub file: &'static str,
    pub title: &'static str,
    /// What is to be known about the figures.
    pub about: &'static str,
    /// What grows.
    pub across: &'static str,
    pub unit: Unit,
    pub curves: Vec<Curve>,
}

/// A number of bytes, objects or processes: in Ki and more, if it is a power of two.
fn count(number: u64) -> String {
    match number {
        1024.. if number.is_power_of_two() => match number.ilog2() / 10 {
            1 => format!("{} Ki", number >> 10),
            2 => format!("{} Mi", number >> 20),
            _ => format!("{} Gi", number >> 30),
        },
        1000.. => digits(number as f64),
        _ => number.to_string(),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Limit => " (limit)",
        Kind::Rival | Kind::Threads => " (beside)",
        Kind::Ours => "",
    }
}

/// What stands in the table and the legend.
fn heading(curve: &Curve) -> String {
    format!("{}{}", curve.name, kind(curve.kind))
}

/// Everything that grows, in the order of the first curve that has it.
fn across(chart: &Chart) -> Vec<u64> {
    let mut all: Vec<u64> =
        chart.curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn table(chart: &Chart, page: &mut String) {
    let mut put =
        |cells: Vec<String>| writeln!(page, "| {} |", cells.join(" | ")).expect("a string takes it");
    let headings = chart.curves.iter().map(heading);
    put(std::iter::once(chart.across.to_string()).chain(headings).collect());
    put(vec!["---:".to_string(); chart.curves.len() + 1]);
    for at in across(chart) {
        let figure = |curve: &Curve| {
            let point = curve.points.iter().find(|point| point.0 == at);
            point.map_or_else(String::new, |point| digits(point.1))
        };
        put(std::iter::once(count(at)).chain(chart.curves.iter().map(figure)).collect());
    }
}

/// The page.
pub fn page(charts: &[Chart], setting: &Setting, seconds: u64) -> String {
    let Setting { machine, system, date, effort_ms, rounds } = setting;
    let mut page = format!(
        "# How cost grows\n\nWritten by `cargo peers --growth`, which took {seconds} s. {machine}; {system}; {date}; \
         the least of {rounds} rounds, each the median of a sample of {effort_ms} ms.\n"
    );
    for chart in charts {
        let Chart { file, title, about, .. } = chart;
        write!(page, "\n## {title}\n\n{about}\n\n![{title}]({file}.svg)\n\n").expect("a string takes it");
        table(chart, &mut page);
    }
    page
}

/// Points of a picture.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// One of two scales: a length for the logarithm of a figure.
struct Scale {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn place(&self, figure: f64) -> f64 {
        let share = (figure.log10() - self.least) / (self.most - self.least).max(1e-9);
        self.from + (self.to - self.from) * share
    }
}

/// Further curves of one kind are of a lighter shade, and broken.
const DASHES: [&str; 5] = ["", "7 4", "2 3", "10 3 2 3", "1 6"];

/// A picture of a chart.
pub fn picture(chart: &Chart) -> String {
    let figures = || chart.curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1.max(1e-3)));
    let at = across(chart);
    let (first, last) = (at.first().copied().unwrap_or(1) as f64, at.last().copied().unwrap_or(2) as f64);
    let x = Scale { least: first.log10(), most: last.log10(), from: LEFT, to: WIDTH - RIGHT };
    let least = figures().fold(f64::INFINITY, f64::min).log10().floor();
    let most = figures().fold(0.0, f64::max).log10().ceil();
    let y = Scale { least, most: most.max(least + 1.0), from: HEIGHT - BOTTOM, to: TOP };
    let mut svg = String::new();
    let mut put = |text: String| writeln!(svg, "{text}").expect("a string takes it");
    put(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"20\" font-weight=\"bold\">{}, {}</text>",
        escaped(chart.title),
        unit(chart.unit)
    ));
    for decade in y.least as i32..=y.most as i32 {
        let (figure, right) = (10_f64.powi(decade), WIDTH - RIGHT);
        let place = y.place(figure);
        put(format!(
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{place:.1}\" y2=\"{place:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            place + 4.0,
            digits(figure)
        ));
    }
    // Not more names than there is room for.
    for &at in at.iter().step_by(at.len().div_ceil(9)) {
        let place = x.place(at as f64);
        let under = HEIGHT - BOTTOM + 18.0;
        put(format!("<text x=\"{place:.1}\" y=\"{under}\" text-anchor=\"middle\">{}</text>", count(at)));
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    put(format!(
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        HEIGHT - 10.0,
        chart.across
    ));
    for (number, curve) in chart.curves.iter().enumerate() {
        let before = chart.curves[..number].iter().filter(|other| other.kind == curve.kind).count();
        let (colour, dashes) = (colour(curve.kind), DASHES[before % DASHES.len()]);
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|&(at, figure)| format!("{:.1},{:.1}", x.place(at as f64), y.place(figure.max(1e-3))))
            .collect();
        let style =
            format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
        put(format!("<polyline points=\"{}\" {style}/>", points.join(" ")));
        for point in &points {
            let (across, up) = point.split_once(',').expect("two numbers");
            put(format!("<circle cx=\"{across}\" cy=\"{up}\" r=\"2.5\" fill=\"{colour}\"/>"));
        }
        let (left, line) = (WIDTH - RIGHT + 16.0, TOP + 22.0 * number as f64);
        put(format!("<polyline points=\"{left},{line} {},{line}\" {style}/>", left + 28.0));
        put(format!("<text x=\"{}\" y=\"{}\">{}</text>", left + 34.0, line + 4.0, escaped(&heading(curve))));
    }
    put("</svg>".to_string());
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let ours = Curve { name: "a < b", kind: Kind::Ours, points: vec![(1, 10.0), (1024, 1234.0)] };
        let limit = Curve { name: "bare", kind: Kind::Limit, points: vec![(1, 5.0)] };
        let (file, title, about, across) = ("growth-x", "X", "About it.", "bytes");
        Chart { file, title, about, across, unit: Unit::Ns, curves: vec![ours, limit] }
    }

    #[test]
    fn numbers_are_told_in_their_own_way() {
        let told = [1, 64, 1000, 1024, 65_536, 1_000_000, 1 << 20, 1 << 36].map(count);
        assert_eq!(told, ["1", "64", "1,000", "1 Ki", "64 Ki", "1,000,000", "1 Mi", "64 Gi"]);
    }

    #[test]
    fn a_table_has_a_row_for_each_size_and_a_gap_where_there_is_no_figure() {
        let mut page = String::new();
        table(&chart(), &mut page);
        let rows: Vec<&str> = page.lines().collect();
        assert_eq!(rows[0], "| bytes | a < b | bare (limit) |");
        assert_eq!(rows[2..], ["| 1 | 10.0 | 5.00 |", "| 1 Ki | 1,234 |  |"]);
    }

    #[test]
    fn a_picture_has_a_line_for_each_curve_within_its_bounds() {
        let svg = picture(&chart());
        assert_eq!(svg.matches("<polyline").count(), 2 * 2);
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.contains(&format!("{LEFT:.1},")));
    }
}
