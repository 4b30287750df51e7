// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Krum computed on chain, for the comparison of costs: everything a proof replaces, nothing more.
/// @notice The rules `krum-2017` and `mad` of zkkrum on the same quantized updates, without commitments and in the open:
/// updates arrive as calldata and nothing is stored. Two versions of the distances, which are nearly all of the work:
/// `krum` does what the formula says, `krumPacked` multiplies nine coordinates at once and takes b <= 12.
contract PlainKrum {
    /// @dev Bits of a limb of the packed form: room for a sum of nine products of 12-bit numbers.
    uint256 private constant LIMB = 28;
    uint256 private constant LIMBS = 9;

    /// @notice Krum's choice and the flagged clients, plainly.
    /// @param updates Client after client, 16 bits a value, sixteen to a word, filled up with zeros to whole words.
    /// @param z,gamma Numerator and denominator of the thresholds z and γ.
    /// @return winner The lowest score, then the lowest index.
    /// @return flagged Bitmap of flagged clients.
    /// @return scores Scores of the clients.
    function krum(
        bytes calldata updates,
        uint256 n,
        uint256 f,
        uint256[2] calldata z,
        uint256[2] calldata gamma
    ) external pure returns (uint256 winner, uint256 flagged, uint256[] memory scores) {
        (winner, scores) = _score(_distances(updates, n), n, f);
        flagged = _mad(scores, z, gamma);
    }

    /// @notice The same, nine products at a time.
    /// @param updates Client after client, 28 bits a value, nine to a word, the first in the lowest bits; filled up with
    /// zeros to whole words. Values below 2^12.
    function krumPacked(
        bytes calldata updates,
        uint256 n,
        uint256 f,
        uint256[2] calldata z,
        uint256[2] calldata gamma
    ) external pure returns (uint256 winner, uint256 flagged, uint256[] memory scores) {
        (winner, scores) = _score(_distancesPacked(updates, n), n, f);
        flagged = _mad(scores, z, gamma);
    }

    function _distances(bytes calldata updates, uint256 n) private pure returns (uint256[] memory distances) {
        distances = new uint256[](n * n);
        uint256 stride = updates.length / n;
        for (uint256 i = 0; i < n; ++i) {
            for (uint256 j = i + 1; j < n; ++j) {
                uint256 sum = 0;
                assembly ("memory-safe") {
                    let p := add(updates.offset, mul(i, stride))
                    let q := add(updates.offset, mul(j, stride))
                    for { let end := add(p, stride) } lt(p, end) { p := add(p, 32) q := add(q, 32) } {
                        let x := calldataload(p)
                        let y := calldataload(q)
                        for {} or(x, y) { x := shr(16, x) y := shr(16, y) } {
                            let difference := sub(and(x, 0xffff), and(y, 0xffff))
                            sum := add(sum, mul(difference, difference))
                        }
                    }
                }
                distances[i * n + j] = sum;
                distances[j * n + i] = sum;
            }
        }
    }

    /// @dev |x - y|² = x·x + y·y - 2 x·y. With y's limbs reversed, limb 8 of the 256-bit product of two words is the sum
    /// of their nine products; no lower limb overflows into it, and higher ones are cut off.
    function _distancesPacked(bytes calldata updates, uint256 n) private pure returns (uint256[] memory distances) {
        distances = new uint256[](n * n);
        uint256[] memory norms = new uint256[](n);
        uint256[] memory mirrored = new uint256[](updates.length / 32);
        uint256 stride = updates.length / n;
        uint256 top = LIMB * (LIMBS - 1);
        uint256 mask = (1 << LIMB) - 1;
        assembly ("memory-safe") {
            for { let k := 0 } lt(k, updates.length) { k := add(k, 32) } {
                let x := calldataload(add(updates.offset, k))
                let y := 0
                for { let limb := 0 } lt(limb, LIMBS) { limb := add(limb, 1) } {
                    y := or(shl(LIMB, y), and(x, mask))
                    x := shr(LIMB, x)
                }
                mstore(add(add(mirrored, 32), k), y)
            }
        }
        for (uint256 i = 0; i < n; ++i) {
            for (uint256 j = 0; j <= i; ++j) {
                uint256 sum = 0;
                assembly ("memory-safe") {
                    let p := add(updates.offset, mul(i, stride))
                    let q := add(add(mirrored, 32), mul(j, stride))
                    for { let end := add(p, stride) } lt(p, end) { p := add(p, 32) q := add(q, 32) } {
                        sum := add(sum, and(shr(top, mul(calldataload(p), mload(q))), mask))
                    }
                }
                if (i == j) norms[i] = sum;
                else distances[i * n + j] = sum;
            }
            for (uint256 j = 0; j < i; ++j) {
                uint256 distance = norms[i] + norms[j] - 2 * distances[i * n + j];
                distances[i * n + j] = distance;
                distances[j * n + i] = distance;
            }
        }
    }

    function _score(uint256[] memory distances, uint256 n, uint256 f)
        private
        pure
        returns (uint256 winner, uint256[] memory scores)
    {
        scores = new uint256[](n);
        uint256[] memory row = new uint256[](n - 1);
        for (uint256 i = 0; i < n; ++i) {
            for (uint256 j = 0; j < n - 1; ++j) row[j] = distances[i * n + (j < i ? j : j + 1)];
            _sort(row);
            uint256 score = 0;
            for (uint256 j = 0; j < n - f - 2; ++j) score += row[j];
            scores[i] = score;
            if (score < scores[winner]) winner = i;
        }
    }

    function _mad(uint256[] memory scores, uint256[2] calldata z, uint256[2] calldata gamma)
        private
        pure
        returns (uint256 flagged)
    {
        uint256 n = scores.length;
        uint256[] memory sorted = new uint256[](n);
        for (uint256 i = 0; i < n; ++i) sorted[i] = scores[i];
        _sort(sorted);
        uint256 median = sorted[(n - 1) / 2];
        if (median == 0) return 0;
        for (uint256 i = 0; i < n; ++i) sorted[i] = scores[i] > median ? scores[i] - median : median - scores[i];
        _sort(sorted);
        uint256 deviation = sorted[(n - 1) / 2];
        for (uint256 i = 0; i < n; ++i) {
            if (
                scores[i] > median && (scores[i] - median) * z[1] > z[0] * deviation
                    && scores[i] * gamma[1] > (gamma[1] + gamma[0]) * median
            ) flagged |= 1 << i;
        }
    }

    /// @dev Insertion sort; rows are short.
    function _sort(uint256[] memory a) private pure {
        unchecked {
            for (uint256 i = 1; i < a.length; ++i) {
                uint256 x = a[i];
                uint256 j = i;
                for (; j > 0 && a[j - 1] > x; --j) a[j] = a[j - 1];
                a[j] = x;
            }
        }
    }
}
