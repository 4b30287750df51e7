// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Krum computed on chain, for the comparison of costs: everything a proof replaces, nothing more.
/// @notice The rules of zkkrum's `krum-2017` and `mad` on the same quantized updates, without commitments.
/// @dev Updates arrive as calldata, 16 bits a value, client after client; nothing is stored. Written to be cheap: the
/// inner loop is assembly and takes 16 coordinates from one word, so the comparison flatters this side.
contract PlainKrum {
    /// @notice Scores by krum-2017, the lowest wins, `mad` flags with thresholds z and 1 + γ.
    /// @param updates n·d big-endian 16-bit values; each client's d values are filled up with zeros to whole words.
    /// @return winner The client Krum selects (lowest score, then lowest index).
    /// @return flagged Bitmap of flagged clients.
    /// @return scores Scores of the clients.
    function krum(
        bytes calldata updates,
        uint256 n,
        uint256 f,
        uint256[2] calldata z,
        uint256[2] calldata gamma
    ) external pure returns (uint256 winner, uint256 flagged, uint256[] memory scores) {
        uint256[] memory distances = distancesOf(updates, n);
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
        flagged = _mad(scores, z, gamma);
    }

    /// @notice Squared distances of all pairs, n·n of them.
    function distancesOf(bytes calldata updates, uint256 n) public pure returns (uint256[] memory distances) {
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
