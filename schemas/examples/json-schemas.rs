//! Writes `schemas/json/` from the Rust types; with `--check` only compares, and fails when a file is stale.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> io::Result<ExitCode> {
    let check = env::args().skip(1).any(|argument| argument == "--check");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
    let schemas = muster_schemas::json_schema::all();
    let mut stale = 0;
    for (name, schema) in &schemas {
        let path = folder.join(format!("{name}.json"));
        let text = format!("{schema:#}\n");
        if fs::read_to_string(&path).ok().as_deref() == Some(&text) {
            continue;
        }
        stale += 1;
        if check {
            eprintln!("stale: {}", path.display());
        } else {
            fs::write(&path, text)?;
            println!("wrote {}", path.display());
        }
    }
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if !schemas.iter().any(|(name, _)| *name == stem) {
            stale += 1;
            eprintln!("no longer generated: {} (delete it)", path.display());
        }
    }
    println!("{} schemas, {stale} {}", schemas.len(), if check { "stale" } else { "written" });
    if check && stale > 0 {
        eprintln!("run `cargo xtask schemas` and commit what it writes");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
