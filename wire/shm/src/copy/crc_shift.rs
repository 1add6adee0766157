//! Joining CRC32C values: what a checksum becomes when a known number of bytes follows.
//!
//! A CRC register is a polynomial over GF(2); advancing it over `n` zero bytes is a linear map, a
//! 32 × 32 bit matrix. For a fixed `n` the map is a table of 4 × 256 words, made at compile time
//! (M. Adler's zlib `crc32_combine` uses the same algebra). With it, three parts of a block can be
//! checksummed at once: the crc32 instruction takes three cycles but a new one can start in each.

/// The Castagnoli polynomial, bit-reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The map "advance over a fixed number of zero bytes".
pub(crate) struct Shift([[u32; 256]; 4]);

impl Shift {
    /// The map for `bytes` zero bytes.
    pub(crate) const fn over(bytes: usize) -> Self {
        let matrix = power(bytes);
        let mut table = [[0; 256]; 4];
        let mut byte = 0;
        while byte < 4 {
            let mut value: usize = 0;
            let mut vector: u32 = 0;
            while value < 256 {
                table[byte][value] = times(&matrix, vector << (8 * byte));
                value += 1;
                vector += 1;
            }
            byte += 1;
        }
        Self(table)
    }

    /// Advances the register.
    #[inline]
    pub(crate) fn advance(&self, register: u32) -> u32 {
        let [first, second, third, fourth] = register.to_le_bytes();
        self.0[0][usize::from(first)]
            ^ self.0[1][usize::from(second)]
            ^ self.0[2][usize::from(third)]
            ^ self.0[3][usize::from(fourth)]
    }
}

/// Matrix times vector; column `i` is the image of bit `i`.
const fn times(matrix: &[u32; 32], vector: u32) -> u32 {
    let mut sum = 0;
    let mut bit = 0;
    while bit < 32 {
        if (vector >> bit) & 1 == 1 {
            sum ^= matrix[bit];
        }
        bit += 1;
    }
    sum
}

/// The matrix that advances over `bytes` zero bytes: square and multiply from one bit.
const fn power(bytes: usize) -> [u32; 32] {
    let mut base = [0; 32];
    base[0] = POLYNOMIAL;
    let mut bit = 1;
    while bit < 32 {
        base[bit] = 1 << (bit - 1);
        bit += 1;
    }
    let mut result = [0; 32];
    bit = 0;
    while bit < 32 {
        result[bit] = 1 << bit;
        bit += 1;
    }
    let mut rest = bytes * 8;
    while rest != 0 {
        if rest & 1 == 1 {
            result = product(&base, &result);
        }
        base = product(&base, &base);
        rest >>= 1;
    }
    result
}

/// The matrix that applies `first`, then `second`.
const fn product(second: &[u32; 32], first: &[u32; 32]) -> [u32; 32] {
    let mut result = [0; 32];
    let mut bit = 0;
    while bit < 32 {
        result[bit] = times(second, first[bit]);
        bit += 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::Shift;

    #[test]
    fn advancing_equals_appending_zeros() {
        const OVER: Shift = Shift::over(192);
        let start = crc32c::crc32c(b"some bytes");
        let appended = crc32c::crc32c_append(start, &[0; 192]);
        // The crate's values are complemented at both ends; the register between is what advances.
        assert_eq!(!OVER.advance(!start), appended);
    }
}
