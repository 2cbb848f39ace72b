//! Validates the files named on the command line: `cargo run --example validate -- FILE...`.
use std::io::Write;
use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        match spandrel_config::load(path.as_ref(), &|name| std::env::var(name).ok()) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    writeln!(out, "{warning}")?;
                }
                writeln!(out, "{path}: valid, {} warnings", loaded.warnings.len())?;
            }
            Err(problems) => {
                writeln!(out, "{problems}")?;
                code = ExitCode::from(2);
            }
        }
    }
    Ok(code)
}
