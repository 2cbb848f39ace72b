//! Where a Go program keeps the number of a thread's current goroutine: by the version that its linker wrote down.

use std::fs::File;
use std::path::Path;

use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_TLS, SHT_SYMTAB, STT_TLS};
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use object::{Endianness, ReadRef};
use spandrel_probes::GoroutineLayout;

/// Most sections and segments, and most bytes of a section that are read: an executable may be anything.
const MAX_HEADERS: u16 = 4096;
const MAX_BUILD_INFO: u64 = 64 << 10;
const MAX_SYMBOLS: u64 = 16 << 20;

/// Of `goid` in the runtime's `struct g` on 64-bit machines, from each minor version of Go 1 on, by
/// `src/runtime/runtime2.go` of that version: 1.23 put `syscallbp` before it, 1.25 took `ret` out of `gobuf`. Before
/// 1.13 an executable does not say its version where it is looked for here; nothing is assumed of versions to come.
const GOID: [(u32, u32); 3] = [(13, 152), (23, 160), (25, 152)];
const NEWEST: u32 = 26;

/// Of the pointer to `g` where no other thread-local variables are: right below the thread pointer.
const ALONE: i32 = -8;

/// What the executable says, `None` if it is no Go program or one that is not understood.
pub(super) fn layout(executable: &Path) -> Option<GoroutineLayout> {
    let cache = ReadCache::new(File::open(executable).ok()?);
    read(&cache)
}

fn read<'data>(data: impl ReadRef<'data>) -> Option<GoroutineLayout> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    // None at all: their number would be elsewhere.
    let few = |count: u16| (1..=MAX_HEADERS).contains(&count);
    if !few(header.e_shnum(endian)) || !few(header.e_phnum(endian)) {
        return None;
    }
    let sections = header.sections(endian, data).ok()?;
    let (_, section) = sections.section_by_name(endian, b".go.buildinfo")?;
    if section.sh_size(endian) > MAX_BUILD_INFO {
        return None;
    }
    let goid = goid(minor_version(section.data(endian, data).ok()?)?)?;
    let g = match header.e_machine(endian) {
        EM_X86_64 => thread_local(header, endian, data, &sections)?,
        // In a register.
        EM_AARCH64 => 0,
        _ => return None,
    };
    Some(GoroutineLayout { g, goid })
}

fn goid(minor: u32) -> Option<u32> {
    let known = GOID.iter().rev().find(|(from, _)| minor >= *from);
    known.filter(|_| minor <= NEWEST).map(|(_, offset)| *offset)
}

/// The y of `go1.y`. Until 1.17 there are pointers in place of the text, and nothing moved in these versions.
fn minor_version(build_info: &[u8]) -> Option<u32> {
    let rest = build_info.strip_prefix(b"\xff Go buildinf:")?;
    if rest.get(1)? & 2 == 0 {
        return Some(13);
    }
    let (length, text) = varint(build_info.get(32..)?)?;
    let version = std::str::from_utf8(text.get(..length)?).ok()?;
    let digits = version.strip_prefix("go1.")?;
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits.get(..end.unwrap_or(digits.len()))?.parse().ok()
}

/// A length of up to 16 bits, as the linker writes it, and what follows.
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [low, rest @ ..] if *low < 0x80 => Some((usize::from(*low), rest)),
        [low, high, rest @ ..] if *high < 0x80 => {
            Some((usize::from(*low & 0x7f) | usize::from(*high) << 7, rest))
        }
        _ => None,
    }
}

/// Of the pointer to `g`, from the thread pointer. A program with C in it has thread-local variables of C as well; then
/// the symbol table tells, or nothing does.
fn thread_local<'data, R: ReadRef<'data>>(
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    data: R,
    sections: &SectionTable<'data, FileHeader64<Endianness>, R>,
) -> Option<i32> {
    let segments = header.program_headers(endian, data).ok()?;
    let Some(tls) = segments
        .iter()
        .find(|segment| segment.p_type(endian) == PT_TLS)
    else {
        return Some(ALONE);
    };
    let align = tls.p_align(endian).max(1);
    let size = tls.p_memsz(endian);
    if size <= 8 && align <= 8 {
        return Some(ALONE);
    }
    let symbols = sections
        .iter()
        .find(|section| section.sh_type(endian) == SHT_SYMTAB)?;
    if symbols.sh_size(endian) > MAX_SYMBOLS {
        return None;
    }
    let symbols = sections.symbols(endian, data, SHT_SYMTAB).ok()?;
    let g = symbols
        .iter()
        .filter(|symbol| symbol.st_type() == STT_TLS)
        .find(|symbol| symbol.name(endian, symbols.strings()) == Ok(b"runtime.tlsg"))?;
    // The block ends at the thread pointer, and begins at an address aligned as the segment says.
    let misaligned = tls.p_vaddr(endian).checked_add(size)? % align;
    let padding = if misaligned == 0 {
        0
    } else {
        align - misaligned
    };
    let block = i32::try_from(size.checked_add(padding)?).ok()?;
    let place = i32::try_from(g.st_value(endian)).ok()?;
    place.checked_sub(block)
}

#[cfg(test)]
#[path = "golang_tests.rs"]
mod tests;
