// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ISlasher} from "../ISlasher.sol";

/// @title A slasher that only writes down whom it was told to slash. For tests and the demonstration.
/// @dev Applies those checks of EigenLayer's AllocationManager that do not need its state: service, order, wads.
contract MockSlasher is ISlasher {
    error InvalidCaller();
    error InvalidWadToSlash();
    error InputArrayLengthMismatch();
    error StrategiesMustBeInAscendingOrder();
    error OperatorNotSlashable();

    event OperatorSlashed(address operator, uint32 operatorSetId, address[] strategies, uint256[] wads, string description);

    /// @notice The service on whose behalf clients are slashed.
    address public immutable AVS;
    /// @notice How often an address was slashed.
    mapping(address => uint256) public slashed;
    /// @notice Addresses whose slashing reverts.
    mapping(address => bool) public untouchable;

    constructor(address avs) {
        AVS = avs;
    }

    function setUntouchable(address operator, bool yes) external {
        untouchable[operator] = yes;
    }

    function slashOperator(address avs, SlashingParams calldata params) external {
        if (avs != AVS) revert InvalidCaller();
        if (untouchable[params.operator]) revert OperatorNotSlashable();
        if (params.strategies.length != params.wadsToSlash.length) revert InputArrayLengthMismatch();
        for (uint256 i = 0; i < params.strategies.length; ++i) {
            if (i > 0 && params.strategies[i] <= params.strategies[i - 1]) revert StrategiesMustBeInAscendingOrder();
            if (params.wadsToSlash[i] == 0 || params.wadsToSlash[i] > 1e18) revert InvalidWadToSlash();
        }
        slashed[params.operator] += 1;
        emit OperatorSlashed(
            params.operator, params.operatorSetId, params.strategies, params.wadsToSlash, params.description
        );
    }
}
