//! The results as pictures: a bar for each contender of a row, longer as it takes longer, on a logarithmic scale.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    report::{Cell, Results, digits, unit},
    rounds::Kind,
};

/// Points of a picture.
const WIDTH: f64 = 860.0;
const NAMES: f64 = 300.0;
const FIGURES: f64 = 110.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;

/// A bar: whose, how long, and its colour.
struct Bar<'a> {
    name: &'a str,
    figure: f64,
    unit: &'static str,
    colour: &'static str,
}

pub fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours => "#2166ac",
        Kind::Limit => "#9e9e9e",
        Kind::Threads => "#f4a582",
        Kind::Rival => "#b2182b",
    }
}

/// The bars of a row, ours first: the median of all its pairs, and each other's at the distance of most pairs.
fn bars<'a>(results: &'a Results, row: &str, others: &'a [(String, impl Sized)]) -> Vec<Bar<'a>> {
    let cells: Vec<(&str, &Cell)> = others
        .iter()
        .filter_map(|(beside, _)| Some((beside.as_str(), results.most_measured(row, beside)?.1)))
        .collect();
    let mut own: Vec<f64> = cells.iter().map(|(_, cell)| cell.ours.middle).collect();
    own.sort_by(f64::total_cmp);
    let of =
        |name, figure, cell: &Cell, kind| Bar { name, figure, unit: unit(cell.unit), colour: colour(kind) };
    let first = cells.first().map(|(_, cell)| of("pshared", own[own.len() / 2], cell, Kind::Ours));
    let others = cells.iter().map(|(name, cell)| of(name, cell.theirs.middle, cell, cell.kind));
    first.into_iter().chain(others).collect()
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// One picture of all rows of a subject.
fn picture(rows: &[(&str, Vec<Bar<'_>>)]) -> String {
    let lines: usize = rows.iter().map(|(_, bars)| bars.len() + 2).sum();
    let height = STEP * lines as f64 + STEP;
    let (mut svg, mut y) = (String::new(), STEP);
    let mut put = |text: String| writeln!(svg, "{text}").expect("a string takes it");
    put(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>"
    ));
    for (row, bars) in rows {
        put(format!("<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{}</text>", escaped(row)));
        let least = bars.iter().map(|bar| bar.figure).fold(f64::INFINITY, f64::min).max(1e-3);
        let most = bars.iter().map(|bar| bar.figure).fold(0.0, f64::max).max(least * 10.0);
        for bar in bars {
            y += STEP;
            // The shortest is a tenth of a decade long, so that it is seen.
            let decades = (bar.figure.max(least) / least).log10() + 0.1;
            let length = (WIDTH - NAMES - FIGURES) * decades / ((most / least).log10() + 0.1);
            let (text, top) = (escaped(bar.name), y - BAR + 4.0);
            put(format!("<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{text}</text>", NAMES - 8.0));
            put(format!(
                "<rect x=\"{NAMES}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
                bar.colour
            ));
            let end = NAMES + length + 6.0;
            put(format!("<text x=\"{end:.1}\" y=\"{y}\">{} {}</text>", digits(bar.figure), bar.unit));
        }
        y += 2.0 * STEP;
    }
    put("</svg>".to_string());
    svg
}

/// Writes a picture for each subject into `folder`. Says where they are.
pub fn draw(results: &Results, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut subjects: BTreeMap<&str, Vec<(&str, Vec<Bar<'_>>)>> = BTreeMap::new();
    for (row, others) in &results.rows {
        let subject = row.split('/').next().unwrap_or(row);
        let bars = bars(results, row, others);
        if !bars.is_empty() {
            subjects.entry(subject).or_default().push((row, bars));
        }
    }
    fs::create_dir_all(folder)?;
    let mut drawn = Vec::new();
    for (subject, rows) in subjects {
        let file = folder.join(format!("{}.svg", subject.replace(' ', "-")));
        fs::write(&file, picture(&rows))?;
        drawn.push(file);
    }
    Ok(drawn)
}
