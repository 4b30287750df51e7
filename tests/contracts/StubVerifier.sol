// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IVerifier} from "../IVerifier.sol";

/// @title A verifier for tests of the state machine: a "proof" is the hash of the public inputs it is for.
/// @dev Never to be deployed: whoever knows the public inputs can make such a proof.
contract StubVerifier is IVerifier {
    function verify(bytes calldata proof, bytes32[] calldata publicInputs) external pure returns (bool) {
        return proof.length == 32 && bytes32(proof) == keccak256(abi.encodePacked(publicInputs));
    }
}
