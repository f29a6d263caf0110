//! mongokeep beside the tools that others use: the same servers, the same data, in turn.
//!
//! `cargo bench --bench peers [-- --only dump,files,replay,mixed,slicing,transfer] [--quick] [--scale N] [--rounds N]`. Figures of two
//! machines cannot be compared; the ratios can, roughly. What is measured is what a person waits for: commands from
//! their start to their end, with a daemon or agent that already runs, a filesystem storage and default settings. The
//! stock tools know no S3: of that only the memory is bounded, and the time beside that which a line needs for the bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../tests/support/line.rs"]
mod line;
#[path = "../../tests/support/s3.rs"]
#[allow(dead_code)]
mod s3;
#[path = "../../tests/support/sts.rs"]
#[allow(dead_code)]
mod sts;
#[path = "../../tests/support/tools.rs"]
mod tools;

mod changes;
mod data;
mod dump;
mod files;
mod measure;
mod pbm;
mod replay;
mod slicing;
mod stage;
mod table;
mod transfer;

/// What it is measured beside.
pub struct Peers {
    tools: tools::Tools,
    /// Where there is none, the rest is measured all the same.
    pbm: Option<tools::Pbm>,
}

pub struct Scale {
    /// Of documents and changes; 1.0 is what the goals are stated for.
    scale: f64,
    rounds: usize,
}

type Section = fn(&Peers, &Scale) -> Vec<String>;

const SECTIONS: [(&str, Section); 6] = [
    ("dump", dump::run),
    ("files", files::run),
    ("replay", replay::updates),
    ("mixed", replay::mixed),
    ("slicing", slicing::run),
    ("transfer", transfer::run),
];

fn main() {
    let mut scale = Scale { scale: 1.0, rounds: 3 };
    let mut only: Vec<String> = SECTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value follows the option");
        match word.as_str() {
            "--quick" => scale = Scale { scale: 0.05, rounds: 1 },
            "--scale" => scale.scale = value().parse().expect("a number"),
            "--rounds" => scale.rounds = value().parse().expect("a number"),
            "--only" => only = value().split(',').map(str::to_owned).collect(),
            // What cargo itself passes.
            "--bench" => {}
            other => panic!("unknown option {other}; there are --only, --quick, --scale N and --rounds N"),
        }
    }
    for name in &only {
        assert!(SECTIONS.iter().any(|(known, _)| known == name), "there is no section {name}: {SECTIONS:?}");
    }
    let Some(tools) = tools::Tools::find() else { return };
    let peers = Peers { tools, pbm: tools::Pbm::find() };
    let mut rows = Vec::new();
    for (name, section) in SECTIONS.iter().filter(|(name, _)| only.iter().any(|o| o == name)) {
        eprintln!("== {name}");
        rows.extend(section(&peers, &scale));
    }
    println!("\nscale {}, medians of {}\n\n{}", scale.scale, scale.rounds, table::HEAD);
    rows.iter().for_each(|row| println!("{row}"));
}
