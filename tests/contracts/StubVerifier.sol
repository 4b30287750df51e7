// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IVerifier} from "../IVerifier.sol";

/// @title A verifier for tests of the state machine: a "proof" is the hash of its name and the public inputs.
/// @dev Never to be deployed: whoever knows the public inputs can make such a proof.
contract StubVerifier is IVerifier {
    bytes32 private immutable NAME;

    constructor(bytes32 name) {
        NAME = name;
    }

    function verify(bytes calldata proof, bytes32[] calldata publicInputs) external view returns (bool) {
        return proof.length == 32 && bytes32(proof) == keccak256(abi.encodePacked(NAME, publicInputs));
    }
}
