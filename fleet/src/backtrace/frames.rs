//! From a backtrace of the engine to places that people read: functions by their names in the source, files and lines.

use wasmtime::{FrameInfo, WasmBacktrace};

/// So many functions are told, the innermost.
pub(crate) const DEEPEST: usize = 64;

/// One function on the way to where an execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the function in the module.
    pub(crate) index: u32,
    /// Its name, where module or debug information has one.
    pub(crate) name: Option<String>,
    /// Whether the compiler put its code into the function that follows, which has the same number.
    pub(crate) inlined: bool,
    /// The source file, where there is debug information.
    pub(crate) file: Option<String>,
    /// The line in it, from 1.
    pub(crate) line: Option<u32>,
    /// The column in the line, from 1.
    pub(crate) column: Option<u32>,
}

/// The places of a backtrace, innermost first.
pub(super) fn places(backtrace: &WasmBacktrace) -> Vec<Place> {
    backtrace.frames().iter().flat_map(of_frame).collect()
}

/// The function itself, after those that were put into it at this place.
fn of_frame(frame: &FrameInfo) -> Vec<Place> {
    let index = frame.func_index();
    let symbols = frame.symbols();
    let own = frame.func_name().map(demangled);
    if symbols.is_empty() {
        return vec![Place { index, name: own, inlined: false, file: None, line: None, column: None }];
    }
    let last = symbols.len() - 1;
    let place = |(at, symbol): (usize, &wasmtime::FrameSymbol)| {
        let inlined = at < last;
        let name = symbol.name().map(demangled).or_else(|| own.clone().filter(|_| !inlined));
        // Compilers write 0 where what they made up stands nowhere.
        let known = |number: Option<u32>| number.filter(|number| *number > 0);
        let file = symbol.file().map(str::to_owned);
        Place { index, name, inlined, file, line: known(symbol.line()), column: known(symbol.column()) }
    };
    symbols.iter().enumerate().map(place).collect()
}

/// A name as its language has it; as it is where it is of none that is known.
fn demangled(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    let cpp = cpp_demangle::Symbol::new(name).ok();
    cpp.and_then(|symbol| symbol.demangle().ok()).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source_language() {
        assert_eq!(demangled("_ZN5guest6scales17h0123456789abcdefE"), "guest::scales");
        assert_eq!(demangled("_RNvC5guest6scales"), "guest::scales");
        assert_eq!(demangled("_ZN6motion5Frame4readEi"), "motion::Frame::read(int)");
        for plain in ["scales", "_Zork", "", "a b"] {
            assert_eq!(demangled(plain), plain);
        }
    }
}
