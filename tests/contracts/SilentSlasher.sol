// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title A slasher of an older release: same selector, but it returns nothing.
contract SilentSlasher {
    /// @notice Reports received.
    uint256 public calls;

    struct SlashingParams {
        address operator;
        uint32 operatorSetId;
        address[] strategies;
        uint256[] wadsToSlash;
        string description;
    }

    function slashOperator(address, SlashingParams calldata) external {
        ++calls;
    }
}
