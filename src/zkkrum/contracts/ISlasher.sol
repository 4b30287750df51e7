// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Where flagged clients are reported.
/// @notice Functions, selectors, arguments and return values are those of EigenLayer's `AllocationManager`, so that
/// contract can stand here unchanged; so can `SlashingRouter`. KrumRounds, or the router, must then be the slasher of
/// the operator set.
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

    /// @notice An operator set of an AVS.
    struct OperatorSet {
        address avs;
        uint32 id;
    }

    /// @notice Slashes one operator. Does not revert where nothing was allocated: then all shares are zero.
    /// @param avs The service on whose behalf.
    /// @param params What to slash.
    /// @return slashId The slasher's number of this slashing.
    /// @return shares What was slashed, one amount a strategy.
    function slashOperator(address avs, SlashingParams calldata params)
        external
        returns (uint256 slashId, uint256[] memory shares);

    /// @notice Whether an operator can be slashed on behalf of an operator set now.
    function isOperatorSlashable(address operator, OperatorSet memory operatorSet) external view returns (bool);
}
