// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title What KrumRounds needs of the verifier that `bb write_solidity_verifier` renders for one circuit.
interface IVerifier {
    /// @notice Checks a proof; reverts or returns false if it does not hold.
    /// @param proof The proof, as bb's `evm` target writes it.
    /// @param publicInputs Field elements, each below the BN254 scalar modulus.
    function verify(bytes calldata proof, bytes32[] calldata publicInputs) external view returns (bool);
}
