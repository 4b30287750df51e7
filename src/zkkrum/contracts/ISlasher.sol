// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Where flagged clients are reported.
/// @notice The function, its selector and its argument are those of EigenLayer's `AllocationManager.slashOperator`,
/// so that contract can stand here unchanged; KrumRounds must then be the AVS or one of its appointees. Newer releases
/// of it return an id and shares; the return data is not read, so both fit.
interface ISlasher {
    /// @notice What to slash.
    struct SlashingParams {
        /// @dev Whom: in EigenLayer's words an "operator", here the roster address of a client.
        address operator;
        /// @dev On behalf of which operator set of the AVS.
        uint32 operatorSetId;
        /// @dev From which strategies (`IStrategy[]` in EigenLayer, the same ABI type), in strictly ascending order.
        address[] strategies;
        /// @dev Which part of each, in units of 1e-18: (0, 1e18].
        uint256[] wadsToSlash;
        /// @dev For human readers.
        string description;
    }

    /// @notice Slashes one operator.
    /// @param avs The service on whose behalf.
    /// @param params What to slash.
    function slashOperator(address avs, SlashingParams calldata params) external;
}
