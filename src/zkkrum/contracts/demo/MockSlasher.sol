// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ISlasher} from "../ISlasher.sol";

/// @title A slasher that only writes down whom it was told to slash. For tests and the demonstration.
/// @dev Applies those checks of EigenLayer's AllocationManager that do not need its state: service, order, wads. Like it,
/// it does not revert where nothing is allocated, but reports shares of zero.
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
    /// @notice Addresses whose slashing reverts, and that are not slashable when asked.
    mapping(address => bool) public untouchable;
    /// @notice Addresses with nothing allocated.
    mapping(address => bool) public bare;

    constructor(address avs) {
        AVS = avs;
    }

    function setUntouchable(address operator, bool yes) external {
        untouchable[operator] = yes;
    }

    function setBare(address operator, bool yes) external {
        bare[operator] = yes;
    }

    function slashOperator(address avs, SlashingParams calldata params)
        external
        returns (uint256 slashId, uint256[] memory shares)
    {
        if (avs != AVS) revert InvalidCaller();
        if (untouchable[params.operator]) revert OperatorNotSlashable();
        if (params.strategies.length != params.wadsToSlash.length) revert InputArrayLengthMismatch();
        shares = new uint256[](params.strategies.length);
        for (uint256 i = 0; i < params.strategies.length; ++i) {
            if (i > 0 && params.strategies[i] <= params.strategies[i - 1]) revert StrategiesMustBeInAscendingOrder();
            if (params.wadsToSlash[i] == 0 || params.wadsToSlash[i] > 1e18) revert InvalidWadToSlash();
            if (!bare[params.operator]) shares[i] = params.wadsToSlash[i];
        }
        slashId = ++slashed[params.operator];
        emit OperatorSlashed(
            params.operator, params.operatorSetId, params.strategies, params.wadsToSlash, params.description
        );
    }

    function isOperatorSlashable(address operator, OperatorSet memory operatorSet) external view returns (bool) {
        return operatorSet.avs == AVS && !untouchable[operator];
    }
}
