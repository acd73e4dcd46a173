//! Modules that are small and ask for much work, or are large for nothing, or are no modules.

use crate::{
    Guest,
    binary::{MAGIC, Module, ZERO, leb, list, section, sized},
};

const INIT: &str = "init in load";
const SURVIVES: &str = "survives";
const LATE: &str = "deadline in sanderling_frame";

const I32: u8 = 0x7f;
const END: u8 = 0x0b;
const DROP: u8 = 0x1a;
const CONST: [u8; 2] = [0x41, 0x01];

/// All of them.
pub fn guests() -> Vec<Guest> {
    let mut guests = not_modules();
    guests.extend(large());
    guests.extend(deep());
    guests.extend(wide());
    guests
}

fn module(name: &str, tries: &str, end: &str, edit: impl FnOnce(&mut Module)) -> Guest {
    let mut module = Module::default();
    edit(&mut module);
    Guest::new(name, tries, module.bytes(), end)
}

fn bytes(name: &str, tries: &str, bytes: &[u8]) -> Guest {
    Guest::new(name, tries, bytes.to_vec(), INIT)
}

fn not_modules() -> Vec<Guest> {
    let whole = Module::default().bytes();
    let half = &whole[..whole.len() / 2];
    vec![
        bytes("no-bytes", "Is empty.", b""),
        bytes("no-module", "Is a script.", b"#!/bin/sh\nexec /bin/sh\n"),
        bytes("native-program", "Is a program of the processor.", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"),
        bytes("version-of-tomorrow", "Is a module of a version that there is not.", b"\0asm\xff\xff\0\0"),
        bytes("half-a-module", "Ends in the middle of a section.", half),
        bytes("module-and-more", "Has a byte too many.", &[&whole[..], b"\x01"].concat()),
        bytes(
            "functions-by-claim",
            "Says that it has four billion functions, in five bytes.",
            &[MAGIC, b"\x03\x05\xff\xff\xff\xff\x0f"].concat(),
        ),
        bytes(
            "locals-by-claim",
            "Says that a function has four billion locals, in six bytes.",
            &module("", "", INIT, |module| {
                module.functions = vec![0];
                module.bodies = vec![b"\x01\xff\xff\xff\xff\x0f\x7f\x41\x00\x0b".to_vec()];
            })
            .module,
        ),
        bytes(
            "import-with-a-long-name",
            "Imports a function whose name is 100,000 control characters long.",
            &module("", "", INIT, |module| {
                let name = [&*sized(b"sanderling_v1"), &sized(&[1; 100_000]), b"\x00\x00"].concat();
                module.imports = list([name]);
            })
            .module,
        ),
        bytes(
            "export-twice",
            "Exports two functions by one name of 60,000 letters.",
            &module("", "", INIT, |module| {
                let export = [&sized(&[b'x'; 60_000])[..], b"\x00\x00"].concat();
                module.exports = vec![export.clone(), export];
            })
            .module,
        ),
    ]
}

fn large() -> Vec<Guest> {
    let custom = |name: &[u8], content: &[u8]| section(0, &[&*sized(name), content].concat());
    vec![
        module("custom-section", "Has eight megabytes that mean nothing.", SURVIVES, |module| {
            module.tail = custom(b"name", &vec![0xff; 8_000_000]);
        }),
        module("custom-sections", "Has a million sections that mean nothing.", SURVIVES, |module| {
            module.tail = custom(b"a", b"").repeat(1_000_000);
        }),
        module("names-without-end", "Its names point to each other and beyond the file.", SURVIVES, |module| {
            module.tail = custom(b"name", b"\x01\xff\xff\xff\xff\x0f\x00\x00\x02\xff");
        }),
        module("functions", "Has 99,000 functions that do nothing.", SURVIVES, |module| {
            module.functions = vec![0; 99_000];
            module.bodies = vec![ZERO.to_vec(); 99_000];
        }),
        module("functions-too-many", "Has more functions than a module may have.", INIT, |module| {
            module.functions = vec![0; 100_001];
            module.bodies = vec![ZERO.to_vec(); 100_001];
        }),
        module("types", "Has 2,000 types of 900 parameters, each another.", SURVIVES, |module| {
            let kinds = |number: usize| (0..900).map(move |at| 0x7c + (number >> (at % 11) & 3) as u8);
            module.types =
                (0..2000).map(|number| [&[0x60][..], &list(kinds(number).map(|kind| [kind])), &[0]].concat()).collect();
        }),
        module("globals", "Has 20,000 variables.", SURVIVES, |module| {
            module.globals = list(std::iter::repeat_n(b"\x7f\x01\x41\x00\x0b", 20_000));
        }),
        module("elements", "Has a list of 500,000 functions that it never uses.", SURVIVES, |module| {
            module.elements = list([[&b"\x01\x00"[..], &list(std::iter::repeat_n([0], 500_000))].concat()]);
        }),
        module("element-expressions", "Has 500,000 expressions of which each is nothing.", SURVIVES, |module| {
            let nothing = list(std::iter::repeat_n(b"\xd0\x70\x0b", 500_000));
            module.elements = list([[&b"\x05\x70"[..], &nothing].concat()]);
        }),
        module("data-segments", "Writes 20,000 times nothing to its memory before it begins.", SURVIVES, |module| {
            module.tail = section(11, &list(std::iter::repeat_n(b"\x00\x41\x00\x0b\x00", 20_000)));
        }),
        module("data-segments-too-many", "Has more data segments than a module may have.", INIT, |module| {
            module.tail = section(11, &list(std::iter::repeat_n(b"\x00\x41\x00\x0b\x00", 100_001)));
        }),
        module("export-names", "Exports by a hundred names of 60,000 letters.", SURVIVES, |module| {
            module.exports =
                (0..100).map(|number| [&sized(format!("{number:060000}").as_bytes())[..], b"\0\0"].concat()).collect();
        }),
    ]
}

fn deep() -> Vec<Guest> {
    let body = |parts: &[(&[u8], usize)]| {
        let mut body = vec![0];
        parts.iter().for_each(|(part, times)| body.extend(part.repeat(*times)));
        [body, ZERO[1..].to_vec()].concat()
    };
    vec![
        module("blocks-in-blocks", "Has 40,000 blocks within each other.", SURVIVES, |module| {
            module.frame = body(&[(b"\x02\x40", 40_000), (&[END], 40_000)]);
        }),
        module("conditions-in-conditions", "Has 25,000 conditions within each other.", SURVIVES, |module| {
            module.frame = body(&[(b"\x41\x01\x04\x40", 25_000), (&[END], 25_000)]);
        }),
        module("loops-in-loops", "Has 16,000 loops within each other.", SURVIVES, |module| {
            module.frame = body(&[(b"\x03\x40\x41\x00\x0d\x00", 16_000), (&[END], 16_000)]);
        }),
        module("values-on-the-stack", "Puts 30,000 values on its stack.", SURVIVES, |module| {
            module.frame = body(&[(&CONST, 30_000), (&[DROP], 30_000)]);
        }),
        module(
            "local-behind-values",
            "Changes a variable below 30,000 values that still have the old one.",
            SURVIVES,
            |module| {
                let mut frame = b"\x01\x01\x7f".to_vec();
                frame.extend(b"\x20\x00".repeat(30_000));
                frame.extend(b"\x41\x01\x21\x00");
                frame.extend([DROP].repeat(30_000));
                frame.extend(&ZERO[1..]);
                module.frame = frame;
            },
        ),
        module("constant-of-constants", "Computes a variable's first value from 30,000 numbers.", SURVIVES, |module| {
            let sum = [&b"\x7f\x00"[..], &CONST.repeat(30_000), &[0x6a].repeat(29_999), &[END]].concat();
            module.globals = list([sum]);
        }),
        module("function-without-end", "Has one function of more than a megabyte.", SURVIVES, |module| {
            module.frame = body(&[(&[CONST[0], CONST[1], DROP], 400_000)]);
        }),
        module(
            "branches-to-everywhere",
            "Branches 60,000 ways out of twenty blocks, and takes thirty values along.",
            SURVIVES,
            |module| {
                branches(module, 30, 60_000);
            },
        ),
        module(
            "branches-with-luggage",
            "Branches 30,000 ways, and would take a thousand values along.",
            SURVIVES,
            |module| {
                branches(module, 1000, 30_000);
            },
        ),
    ]
}

/// A branch table out of blocks that each end with so many values.
fn branches(module: &mut Module, values: usize, ways: usize) {
    const BLOCKS: usize = 20;
    module.types = vec![[&[0x60, 0][..], &list(std::iter::repeat_n([I32], values))].concat()];
    let mut frame = vec![0];
    frame.extend([&[2][..], &leb(1)].concat().repeat(BLOCKS));
    frame.extend(CONST.repeat(values));
    frame.extend(b"\x41\x00\x0e");
    frame.extend(list((0..ways).map(|way| leb(way % BLOCKS))));
    frame.extend(leb(0));
    frame.extend([END].repeat(BLOCKS));
    frame.extend([DROP].repeat(values));
    frame.extend(&ZERO[1..]);
    module.frame = frame;
}

fn wide() -> Vec<Guest> {
    // Calls function 2 without end.
    let calls = b"\x00\x03\x40\x10\x02\x1a\x0c\x00\x0b\x00\x0b".to_vec();
    let with_locals = |count: usize| [&[1][..], &leb(count), &[I32], &ZERO[1..]].concat();
    vec![
        module("locals", "Calls a function with 30,000 variables, without end.", LATE, |module| {
            module.frame = calls.clone();
            module.functions = vec![0];
            module.bodies = vec![with_locals(30_000)];
        }),
        module("locals-too-many", "Has a function with more variables than it may have.", INIT, |module| {
            module.functions = vec![0];
            module.bodies = vec![with_locals(50_000)];
        }),
        module(
            "values-handed-around",
            "Hands a thousand values around between its functions, without end.",
            LATE,
            |module| {
                let thousand = list(std::iter::repeat_n([I32], 1000));
                module.types = vec![[&[0x60][..], &thousand, &thousand].concat()];
                let gets: Vec<u8> = (0..1000).flat_map(|local| [&[0x20][..], &leb(local)].concat()).collect();
                let through = |calls: &[u8]| [&[0][..], &gets, calls, &[END]].concat();
                module.functions = vec![1, 1, 1];
                module.bodies = vec![through(&[0x10, 3].repeat(20)), through(&[0x10, 4].repeat(20)), through(&[])];
                let hand = [&CONST.repeat(1000)[..], &[0x10, 2], &[DROP].repeat(1000)].concat();
                module.frame = [&b"\x00\x03\x40"[..], &hand, b"\x0c\x00\x0b\x00\x0b"].concat();
            },
        ),
    ]
}
